"""Text format, read by the protocol buffers' own reader."""

import pytest

from revstep.serve.triton.pbtxt import Name, text_format

text = pytest.importorskip("google.protobuf.text_format")
descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")


def test_fields_messages_lists_names_and_bools():
    message = {
        "name": "x",
        "public_dependency": [0, 2, 1],
        "message_type": [
            {"name": "a", "field": [{"name": "f", "number": -3, "type": Name("TYPE_INT32")}]},
            {"name": "b", "options": {"deprecated": True, "map_entry": False}},
        ],
        "options": {},
    }
    read = text.Parse(text_format(message), descriptor.FileDescriptorProto())
    assert read.name == "x"
    assert list(read.public_dependency) == [0, 2, 1]
    first, second = read.message_type
    assert (first.field[0].number, first.field[0].type) == (-3, 5)
    assert second.options.deprecated
    assert not second.options.map_entry
    assert read.HasField("options")


@pytest.mark.parametrize(
    "value", ['a "b" \\ c', "ä\u3042\U0001f600", "\n\r\t\x00\x1f\x7f\u200b", ""]
)
def test_any_text(value):
    written = text_format({"name": value})
    assert written.removesuffix("\n").isprintable()
    assert text.Parse(written, descriptor.FileDescriptorProto()).name == value
