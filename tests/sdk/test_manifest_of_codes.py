"""The manifest of a model whose styles are codes: what it says, and what it may not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import stylesdk
from stylesdk import Manifest
from stylesdk.manifest import manifest_from_json


def test_manifest_without_the_new_fields_is_what_it_was() -> None:
    plain = Manifest("a", ("a", "b"), 8, "fp32", "CC0")
    text = plain.to_json()
    assert '"sha256":"' + "0" * 64 + '","schema":1,' in text
    assert not {"kind", "codes", "companions"} & set(json.loads(text))
    assert manifest_from_json(text, "x") == plain
    newer = replace(plain, codes=((1.5, -2e-8), (0.0, 3.0)), companions={"encoder": "0a" * 32})
    assert json.loads(newer.to_json())["schema"] == 2, "what does not know codes must say that it is too old"
    assert manifest_from_json(newer.to_json(), "x") == newer
    assert (plain.style_length, newer.style_length, replace(plain, styles=("a",)).style_length) == (2, 2, 0)


def test_manifest_at_its_limits() -> None:
    largest = (float(str(np.finfo(np.float32).max)), -1e-45)
    good = Manifest("a b" * 66, ("a",), 8, "fp32", "CC0", codes=(largest,), companions={"encoder": "0" * 64})
    assert manifest_from_json(good.to_json(), "x") == good
    assert np.isfinite(np.array(good.codes, np.float32)).all()
    elsewhere = replace(good, name="a/b", companions={})
    assert manifest_from_json(elsewhere.to_json(), "x") == elsewhere, "no file is looked for"


@pytest.mark.parametrize(
    "change",
    [
        {"codes": []},
        {"codes": [[1.0]]},
        {"codes": [[1.0], [1.0, 2.0]]},
        {"codes": [[], []]},
        {"codes": [[1.0], ["x"]]},
        {"codes": [[1.0], [float("nan")]]},
        {"codes": [[1.0], [True]]},
        {"codes": [[1.0], [float("inf")]]},
        {"codes": [[1.0], [3.41e38]]},
        {"codes": [[1.0], [-(10**400)]]},
        {"name": "../a", "companions": {"encoder": "0" * 64}},
        {"name": "a\\b", "companions": {"encoder": "0" * 64}},
        {"name": "C:a", "companions": {"encoder": "0" * 64}},
        {"name": "a\0", "companions": {"encoder": "0" * 64}},
        {"name": "a" * 201, "companions": {"encoder": "0" * 64}},
        {"name": "", "companions": {"encoder": "0" * 64}},
        {"name": 7, "companions": {"encoder": "0" * 64}},
        {"codes": 3},
        {"companions": {"encoder": "abc"}},
        {"companions": {"decoder": "0" * 64}},
        {"companions": ["encoder"]},
        {"companions": {"encoder": 1}},
        {"styles": ["a"], "codes": None, "companions": {"chooser": "0" * 64}},
        {"kind": "painter"},
        {"kind": None},
        {"colour": "red"},
    ],
)
def test_manifest_of_codes_that_promises_nonsense(change: dict[str, Any]) -> None:
    good = Manifest("a", ("a", "b"), 8, "fp32", "CC0", codes=((1.0,), (2.0,)))
    text = json.dumps(json.loads(good.to_json()) | change)
    with pytest.raises(stylesdk.ModelFileError, match="x, whose manifest"):
        manifest_from_json(text, "x")
