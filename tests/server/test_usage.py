import json

import pytest
from longrope_server.front_end.factor_set.answer import FactorSetUsage
from longrope_server.front_end.factor_set.usage import with_factor_set

FACTOR_SET: FactorSetUsage = {"started": 8, "finished": 16, "promoted": True}


SAID = '"factor_set":{"started":8,"finished":16,"promoted":true}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"usage":{}}', '{"usage":{SAID}}'),
        ('{"usage":{"a":1}}', '{"usage":{"a":1,SAID}}'),
        (
            '{ "b" : "é\\u00e9" , "usage" : { "a" : 1.50 } , "c" : [1E2] }\r\n',
            '{ "b" : "é\\u00e9" , "usage" : { "a" : 1.50 ,SAID} , "c" : [1E2] }\r\n',
        ),
        ('{"response":{"usage":{"a":{}}}}', '{"response":{"usage":{"a":{},SAID}}}'),
        ('{"message":{"usage":{"a":1}}}', '{"message":{"usage":{"a":1,SAID}}}'),
        (
            '{"data":[{"usage":{}}],"usage":{"a":[1]}}',
            '{"data":[{"usage":{}}],"usage":{"a":[1],SAID}}',
        ),
        ('{"usage":{"a":1},"data":["usage"]}', '{"usage":{"a":1,SAID},"data":["usage"]}'),
        ('{"usage":{"a":1},"data":[{"usage":{}}]}', '{"usage":{"a":1,SAID},"data":[{"usage":{}}]}'),
        ('{"usage":{"a":1},"data":{"usage":1}}', '{"usage":{"a":1,SAID},"data":{"usage":1}}'),
        ('{"x":{"usage":{}},"usage":{}}', '{"x":{"usage":{}},"usage":{SAID}}'),
    ],
)
def test_usage_gets_one_more_member(before: str, after: str) -> None:
    changed = with_factor_set(before.encode(), FACTOR_SET).decode()
    assert changed == after.replace("SAID", SAID)
    json.loads(changed)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[DONE]",
        '{"usage":null}',
        '{"usage":"x"}',
        '{"a":"\\"usage\\":{"}',
        '{"a":"usage"}',
        '{"tools":[{"properties":{"usage":{"type":"string"}}}]}',
        '{"response":{"tools":[{"usage":{}}],"usage":null}}',
        '[{"usage":{}}]',
        '{"usage":{',
        '{"usage" {}}',
        '{"a":1 "usage":',
    ],
)
def test_what_has_no_usage_object_is_untouched(document: str) -> None:
    assert with_factor_set(document.encode(), FACTOR_SET) == document.encode()


def test_bytes_that_are_no_text_are_untouched() -> None:
    assert with_factor_set(b'\xff{"usage":{}}', FACTOR_SET) == b'\xff{"usage":{}}'
