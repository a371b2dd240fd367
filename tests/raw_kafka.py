"""Messages that confluent-kafka's Python does not make, sent by the librdkafka that it comes with."""

import ctypes
from pathlib import Path

import confluent_kafka

_TOPIC, _VALUE, _FLAGS, _HEADERS, _END = 1, 4, 7, 10, 0
_COPY = 2
_PRODUCER = 0
_ERROR = 512


def produce_with_header(bootstrap: str, topic: str, name: bytes, header: bytes, value: bytes) -> None:
    """One message with one header, whose name may be any bytes; in Kafka when this returns."""
    [file] = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*")
    library = ctypes.CDLL(str(file))
    for made in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, made).restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(_ERROR)
    room = ctypes.c_size_t(_ERROR)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    assert library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), said, room) == 0, (
        said.value
    )
    producer = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, said, room))
    assert producer, said.value
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(1)))
    lengths = ctypes.c_ssize_t(len(name)), ctypes.c_ssize_t(len(header))
    assert library.rd_kafka_header_add(headers, name, lengths[0], header, lengths[1]) == 0
    code = library.rd_kafka_producev(
        producer,
        ctypes.c_int(_TOPIC), ctypes.c_char_p(topic.encode()),
        ctypes.c_int(_VALUE), ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        ctypes.c_int(_FLAGS), ctypes.c_int(_COPY),
        ctypes.c_int(_HEADERS), headers,
        ctypes.c_int(_END),
    )  # fmt: skip
    assert code == 0
    assert library.rd_kafka_flush(producer, 20_000) == 0
    library.rd_kafka_destroy(producer)
