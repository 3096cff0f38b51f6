"""Decimal text is judged by hand on an order's way; the schema says the same as a pattern."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tradsys.codec.decimals import AMOUNT_MAX, DECIMAL, DecimalError, amount_of
from tradsys.core.messages import AMOUNT_SCALE

PLAIN = st.from_regex(DECIMAL, fullmatch=True)
NEARLY = st.text(alphabet="0019..-+e _٣²\n", max_size=21)


def judged(text: str) -> int | tuple[str, bool]:
    try:
        return amount_of(text)
    except DecimalError as error:
        return error.problem, error.precise


def by_the_pattern(text: str) -> int | tuple[str, bool]:
    if not DECIMAL.fullmatch(text):
        return "is not a plain decimal like 12.50", False
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > 8:
        return "has more than 8 digits after the point", True
    amount = int(whole) * AMOUNT_SCALE + int(fraction or "0") * 10 ** (8 - len(fraction))
    return amount if amount <= AMOUNT_MAX else ("is larger than 46116860184.27387904", False)


@given(PLAIN | NEARLY)
@example("")
@example("0")
@example("00")
@example("01.5")
@example("0.0")
@example("1.")
@example(".1")
@example("1.2.3")
@example("1\n")
@example("٣")
@example("1.²")
@example("9" * 18)
@example("9" * 19)
@example("1." + "0" * 18)
@example("1." + "0" * 19)
@example("46116860184.27387904")
@example("46116860184.27387905")
def test_a_text_is_a_plain_decimal_exactly_if_it_has_the_shape_that_the_schema_names(text):
    assert judged(text) == by_the_pattern(text)
