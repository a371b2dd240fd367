"""Accounts: the money behind the strategies. A closed position changes a balance by its profit or loss."""

from random import Random

from analytics_pipeline.simulator.envelope import TRADING, Draft

ASSET = "USDT"
DEPOSIT = 50_000.0


class Account:
    """One account and its balance, in hundredths so that sums stay exact."""

    def __init__(self, account_id: str, user_id: str, hundredths: int) -> None:
        self.account_id = account_id
        self.user_id = user_id
        self._hundredths = hundredths

    @property
    def balance(self) -> float:
        """The balance in the account's asset."""
        return self._hundredths / 100

    def book(self, amount: float) -> None:
        """Add `amount`; a loss that would leave nothing is met by a deposit, as a desk would do."""
        self._hundredths += round(amount * 100)
        if self._hundredths < 0:
            self._hundredths += round(DEPOSIT * 100)

    def statement(self, _now: int) -> Draft:
        """The event that tells the balance."""
        properties = {"account_id": self.account_id, "asset": ASSET, "balance": self.balance}
        return Draft(TRADING, self.account_id, "balance.updated", properties, self.user_id)


def open_accounts(random: Random, count: int) -> list[Account]:
    """`count` accounts of as many users, with different balances."""
    return [
        Account(f"acct-{n:02d}", f"user-{n:03d}", random.randrange(10_000_000, 100_000_000))
        for n in range(1, count + 1)
    ]
