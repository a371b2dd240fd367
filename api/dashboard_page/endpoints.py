"""`/dashboard`: the page and its files; `/` leads there.

All of it is public and the same for everybody: what the page shows, it asks the API for, with the cookie of a session.
Every view has an address below `/dashboard/`; which there are is the page's own business.
"""

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api.access import PUBLIC
from api.dashboard_page.assets import PREFIX, Asset, assets
from api.errors import NotFound

router = APIRouter(include_in_schema=False)

PATH = "/dashboard"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Its own files and the API; no inline script, no inline style, nothing from elsewhere."""
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@router.get("/", dependencies=[PUBLIC])
async def get_root() -> RedirectResponse:
    """Where people begin."""
    return RedirectResponse(PATH, status_code=307)


@router.get(PREFIX + "/{path:path}", dependencies=[PUBLIC])
async def get_asset(path: str, request: Request) -> Response:
    """A file of the page; its address changes when its content does."""
    asset = assets().files.get(path)
    if asset is None:
        raise NotFound("The page has no such file; reload it if it was open while the service was upgraded.")
    return await _answer(request, asset, {"Cache-Control": _FOREVER})


@router.get(PATH, dependencies=[PUBLIC])
@router.get(PATH + "/{view:path}", dependencies=[PUBLIC])
async def get_page(request: Request) -> Response:
    """The page, at the address of any of its views."""
    found = assets()
    headers = {"Cache-Control": _ASK_AGAIN, "ETag": found.etag, "Content-Security-Policy": _POLICY}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if found.etag in known:
        return Response(status_code=304, headers=headers)
    return await _answer(request, found.page, headers)


async def _answer(request: Request, asset: Asset, headers: dict[str, str]) -> Response:
    encoding = asset.encoding_for(request.headers.get("accept-encoding", ""))
    headers = headers | {"Vary": "Accept-Encoding"}
    if encoding is None:
        return Response(asset.content, media_type=asset.media_type, headers=headers)
    packed = await asyncio.to_thread(asset.packed, encoding)
    return Response(packed, media_type=asset.media_type, headers=headers | {"Content-Encoding": encoding})
