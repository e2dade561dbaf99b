"""Writes vectors.json: what real GNU Radio serializes, and sends over ZeroMQ with tags.

The committed file was made on Debian 12 with GNU Radio 3.10.5.1:

    apt-get install --no-install-recommends gnuradio
    /usr/bin/python3 tests/gnuradio/make_vectors.py

The tests compare these bytes with the values that they hold as literals, and need no GNU Radio.
"""

import json
from pathlib import Path

import pmt
import zmq
from gnuradio import blocks, gr, zeromq

LONG, SYMBOL = pmt.from_long, pmt.intern
UNIFORM = {
    "u8": [0, 1, 255], "s8": [-128, 0, 127],
    "u16": [0, 1, 65535], "s16": [-32768, 0, 32767],
    "u32": [0, 1, 2**32 - 1], "s32": [-(2**31), 0, 2**31 - 1],
    "u64": [0, 1, 2**64 - 1], "s64": [-(2**63), 0, 2**63 - 1],
    "f32": [1.5, -2.5], "f64": [0.1, -2.5],
    "c32": [1.5 - 2j, 3j], "c64": [0.1 - 2j, 3j],
}  # fmt: skip


def dictionary(*names):
    result = pmt.make_dict()
    for number, name in enumerate(names):
        result = pmt.dict_add(result, SYMBOL(name), LONG(number))
    return result


def values():
    yield "true", pmt.PMT_T
    yield "false", pmt.PMT_F
    yield "null", pmt.PMT_NIL
    yield "eof", pmt.PMT_EOF
    yield "symbol", SYMBOL("rx_time")
    yield "symbol empty", SYMBOL("")
    yield "symbol utf-8", SYMBOL("é")
    for number in (0, 5, -5, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)):
        yield f"long {number}", LONG(number)
    for number in (0, 5, 2**64 - 1):
        yield f"uint64 {number}", pmt.from_uint64(number)
    yield "double", pmt.from_double(-1.5)
    yield "complex", pmt.from_complex(1.5 - 2j)
    yield "pair", pmt.cons(LONG(1), LONG(2))
    yield "pair of pairs", pmt.cons(pmt.cons(pmt.PMT_T, pmt.PMT_F), pmt.cons(LONG(1), LONG(2)))
    yield "list", pmt.list3(LONG(1), SYMBOL("b"), pmt.PMT_NIL)
    yield "list of a list", pmt.list1(pmt.list2(LONG(1), LONG(2)))
    yield "dictionary empty", dictionary()
    yield "dictionary", dictionary("a", "b", "c")
    yield "dictionary replaced", pmt.dict_add(dictionary("a", "b", "c"), SYMBOL("b"), LONG(9))
    yield "dictionary deleted", pmt.dict_delete(dictionary("a", "b", "c"), SYMBOL("b"))
    yield "tuple empty", pmt.make_tuple()
    yield "tuple", pmt.make_tuple(pmt.from_uint64(7), pmt.from_double(0.25))
    vector = pmt.make_vector(2, pmt.PMT_NIL)
    pmt.vector_set(vector, 0, SYMBOL("x"))
    yield "vector", vector
    yield "vector empty", pmt.make_vector(0, pmt.PMT_NIL)
    for name, elements in UNIFORM.items():
        make = getattr(pmt, f"init_{name}vector")
        yield name, make(len(elements), elements)
        yield f"{name} empty", make(0, [])
    yield "pdu", pmt.cons(dictionary("a"), pmt.init_u8vector(3, [1, 2, 3]))


def tagged_message():
    """The first message of zeromq.push_sink with pass_tags: 4 samples, 3 tags."""
    tags = [
        gr.python_to_tag((0, SYMBOL("rx_freq"), pmt.from_double(2.4e9), SYMBOL("usrp"))),
        gr.python_to_tag((2, SYMBOL("rx_time"), pmt.make_tuple(pmt.from_uint64(7), pmt.from_double(0.25)), pmt.PMT_F)),  # noqa: E501
        gr.python_to_tag((3, SYMBOL("burst"), pmt.PMT_T, pmt.PMT_F)),
    ]  # fmt: skip
    flowgraph = gr.top_block()
    source = blocks.vector_source_c([1 + 2j, -1.5 + 0j, 0.5j, -2 - 2j], False, 1, tags)
    sink = zeromq.push_sink(gr.sizeof_gr_complex, 1, "tcp://127.0.0.1:*", 100, True)
    flowgraph.connect(source, sink)
    socket = zmq.Context.instance().socket(zmq.PULL)
    socket.connect(sink.last_endpoint())
    flowgraph.start()
    message = socket.recv()
    flowgraph.wait()
    return message


if __name__ == "__main__":
    result = {
        "gnuradio": gr.version(),
        "pmt": {name: pmt.serialize_str(value).hex() for name, value in values()},
        "tagged": tagged_message().hex(),
    }
    path = Path(__file__).with_name("vectors.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
