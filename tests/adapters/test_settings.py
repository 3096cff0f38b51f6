"""Settings: where values come from, and that nothing wrong gets past the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tradsys.core.messages import (
    CASH,
    LIMITS,
    DefineAccount,
    DefineInstrument,
    Instrument,
    Limits,
    Rules,
    SetLimits,
    SetRules,
)
from tradsys.settings import Settings, SettingsError, describe, load


def a_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "venue.yaml"
    path.write_text(text)
    return str(path)


def refusal(environ: dict[str, str], config: str | None = None) -> tuple[str, str, str | None]:
    with pytest.raises(SettingsError) as caught:
        load(environ, config)
    return caught.value.key, caught.value.problem, caught.value.nearest


def test_without_file_and_environment_everything_is_the_default():
    assert load({}) == Settings()


def test_the_plans_names_have_the_plans_defaults():
    plan: dict[str, Any] = {
        "gc_percent": 200,
        "memory_limit": 2 * 1024**3,
        "max_connections": 10_000,
        "order_pool_size": 1_000,
        "message_pool_size": 5_000,
        "response_pool_size": 2_000,
        "order_latency_target_us": 100,
        "ws_latency_target_us": 50,
        "db_latency_target_us": 1_000,
        "sqlite_wal": True,
        "sqlite_cache_size": 10_000,
        "sqlite_mmap_size": 268_435_456,
        "ws_buffer_size": 4_096,
        "ws_binary_protocol": True,
        "ws_compression_level": 1,
    }

    assert {name: getattr(load({}), name) for name in plan} == plan


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    config = a_file(tmp_path, "port: 8100\nshard: b\n")

    settings = load({"TRADSYS_PORT": "8200"}, config)

    assert (settings.port, settings.shard, settings.ops_port) == (8200, "b", 9100)


def test_a_variable_can_name_the_file_and_the_argument_wins_over_it(tmp_path):
    named = a_file(tmp_path, "shard: b\n")
    given = tmp_path / "given.yaml"
    given.write_text("shard: c\n")

    assert load({"TRADSYS_CONFIG": named}).shard == "b"
    assert load({"TRADSYS_CONFIG": named}, str(given)).shard == "c"


def test_data_dir_is_accepted_under_its_short_name_too():
    assert load({"DATA_DIR": "/a"}).data_dir == "/a"
    assert load({"DATA_DIR": "/a", "TRADSYS_DATA_DIR": "/b"}).data_dir == "/b"


def test_an_empty_variable_counts_as_unset_and_others_variables_are_not_ours():
    assert load({"TRADSYS_PORT": "", "DATA_DIR": "", "PORT": "1", "TRADSYSTEM": "x"}) == Settings()


def test_variables_of_the_client_commands_are_no_settings():
    assert load({"TRADSYS_URL": "http://127.0.0.1:1", "TRADSYS_TOKEN": "x"}) == Settings()


def test_the_environment_gives_booleans_lists_and_sizes_as_text():
    settings = load(
        {
            "TRADSYS_CPU_EXCLUSIVE": "1",
            "TRADSYS_SQLITE_WAL": "false",
            "TRADSYS_CORS_ORIGINS": "https://a.example, https://b.example",
            "TRADSYS_MEMORY_LIMIT": "512MiB",
        }
    )

    assert (settings.cpu_exclusive, settings.sqlite_wal) == (True, False)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.memory_limit == 512 * 1024**2


@pytest.mark.parametrize(
    ("environ", "key", "nearest"),
    [
        ({"TRADSYS_PROT": "8000"}, "TRADSYS_PROT", "TRADSYS_PORT"),
        ({"TRADSYS_DURABLITY": "durable"}, "TRADSYS_DURABLITY", "TRADSYS_DURABILITY"),
        ({"TRADSYS_CONFG": "x"}, "TRADSYS_CONFG", "TRADSYS_CONFIG"),
        ({"TRADSYS_port": "8000"}, "TRADSYS_port", "TRADSYS_PORT"),
        ({"TRADSYS_QQQQQQQQ": "x"}, "TRADSYS_QQQQQQQQ", None),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(environ, key, nearest):
    assert refusal(environ) == (key, "there is no such setting", nearest)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TRADSYS_PORT": "eight"}, "'eight' is not a whole number from 1 to 65535"),
        ({"TRADSYS_PORT": "0"}, "'0' is not a whole number from 1 to 65535"),
        ({"TRADSYS_PORT": "65536"}, "'65536' is not a whole number from 1 to 65535"),
        ({"TRADSYS_PORT": "80.5"}, "'80.5' is not a whole number from 1 to 65535"),
        ({"TRADSYS_SPIN": "off"}, "'off' is not auto or always or never"),
        ({"TRADSYS_SQLITE_WAL": "yes"}, "'yes' is not true or false"),
        ({"TRADSYS_MEMORY_LIMIT": "2GB"}, "'2GB' is not a size from 64MiB"),
        ({"TRADSYS_SHARD": "too-long-a-name"}, "'too-long-a-name' is not text like ^[a-z0-9]{1,8}$"),
        (
            {"TRADSYS_PORT": "tcp://10.0.0.1:8000"},
            "'tcp://10.0.0.1:8000' is not a whole number from 1 to 65535;"
            " it looks like a Kubernetes service link",
        ),
    ],
)
def test_a_bad_variable_is_refused_with_what_it_may_be(environ, expected):
    (key,) = environ

    assert refusal(environ) == (key, expected, None)


@pytest.mark.parametrize(
    ("text", "key", "problem", "nearest"),
    [
        ("prot: 8000", "prot", "there is no such setting", "port"),
        ("port: '8000'", "port", "'8000' is not a whole number from 1 to 65535", None),
        ("port: 8000.0", "port", "'8000.0' is not a whole number from 1 to 65535", None),
        ("port: true", "port", "True is not a whole number from 1 to 65535", None),
        ("port: null", "port", "None is not a whole number from 1 to 65535", None),
        ("port: 133:20", "port", "'133:20' is not a whole number from 1 to 65535", None),
        ("sqlite_wal: 1", "sqlite_wal", "1 is not true or false", None),
        ("durability: off", "durability", "'off' is not process or durable", None),
        ("cors_origins: '*'", "cors_origins", "'*' is not a list of origins", None),
        ("data_dir: ''", "data_dir", "'' is not text that is not empty", None),
        ("port: 1\nport: 2", "port", "is given twice (line 2)", None),
        ("1: 2", "1", "a key must be text", None),
        ("admin_port: 8000", "admin_port", "8000 is taken by port already", None),
        ("batch_body_bytes_max: 1024", "batch_body_bytes_max", "is below body_bytes_max", None),
        ("seed: 1", "seed", "Expected `object`, got `int`", None),
        ("seed: {symbol: []}", "seed.symbol", "there is no such setting", "symbols"),
        (
            "seed: {symbols: [{symbol: A-B, tick: '1', lot_size: '1'}]}",
            "seed.symbols[0].tick",
            "there is no such setting",
            "tick_size",
        ),
        (
            "seed: {accounts: [{account: x, mode: margin}]}",
            "seed.accounts[0].mode",
            "Invalid enum value 'margin'",
            None,
        ),
        (
            "seed: {rules: {open_orders_max: 1}}",
            "seed.rules.open_orders_max",
            "there is no such setting",
            "closed_orders_max",
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: '0.000000001', lot_size: '1'}]}",
            "seed.symbols[0].tick_size",
            "'0.000000001' has more than 8 digits after the point",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: cheap, lot_size: '1'}]}",
            "seed.symbols[0].tick_size",
            "'cheap' is not a plain decimal like 12.50",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: '0', lot_size: '1'}]}",
            "seed.symbols[0]",
            "tick_size and lot_size must be above 0",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: '0.00001', lot_size: '0.00001'}]}",
            "seed.symbols[0]",
            "tick_size × lot_size must be a multiple of 0.00000001",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: 1, lot_size: 1, maker_fee_ppm: 2}]}",
            "seed.symbols[0].maker_fee_ppm",
            "is above taker_fee_ppm",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: 1, lot_size: 2, qty_min: 3}]}",
            "seed.symbols[0].qty_min",
            "is not a multiple of the lot size 2",
            None,
        ),
        (
            "seed: {symbols: [{symbol: A-B, tick_size: 1, lot_size: 1, qty_min: 3, qty_max: 2}]}",
            "seed.symbols[0].qty_max",
            "is below qty_min",
            None,
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_key(tmp_path, text, key, problem, nearest):
    assert refusal({}, a_file(tmp_path, text)) == (key, problem, nearest)


@pytest.mark.parametrize("text", ["- a", "a: [", "\xff", "[" * 400])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "venue.yaml"
    path.write_bytes(text.encode("latin-1"))

    key, problem, _ = refusal({}, str(path))

    assert key == str(path)
    assert problem.startswith(("is not YAML", "must be a mapping"))


def test_a_file_that_is_missing_is_refused_and_an_empty_one_changes_nothing(tmp_path):
    assert refusal({}, str(tmp_path / "none"))[1] == "can't be read (No such file or directory)"
    assert load({}, a_file(tmp_path, "# nothing\n")) == Settings()


def test_the_seed_can_only_be_given_in_the_file():
    assert refusal({"TRADSYS_SEED": "{}"}) == ("TRADSYS_SEED", "can only be given in the file", None)


def test_an_error_says_key_problem_and_nearest_name_and_has_the_exit_code():
    with pytest.raises(SettingsError) as caught:
        load({"TRADSYS_PROT": "1"})

    assert str(caught.value) == "TRADSYS_PROT: there is no such setting; did you mean TRADSYS_PORT?"
    assert caught.value.exit_code == 78


def test_a_fresh_venue_has_short_steps_two_symbols_and_an_account_without_limits():
    assert load({}).seed.commands() == [
        SetRules(Rules(step_orders_max=250, match_makers_max=1_000)),
        DefineInstrument(Instrument("BTC-USD", "BTC", "USD", tick_size=1_000_000, lot_size=1_000)),
        DefineInstrument(Instrument("ETH-USD", "ETH", "USD", tick_size=1_000_000, lot_size=10_000)),
        DefineAccount("demo", LIMITS),
    ]


def test_a_seed_becomes_exact_commands_rules_first(tmp_path):
    config = a_file(
        tmp_path,
        """
seed:
  rules: {shard_orders_max: 500, match_makers_max: 3}
  symbols:
  - {symbol: SOL-EUR, tick_size: 0.01, lot_size: 0.1, qty_min: 0.5, qty_max: 1000, notional_min: "2.5",
     band_ppm: 50000, maker_fee_ppm: 100, taker_fee_ppm: 250}
  accounts:
  - {account: alice, mode: cash}
  - {account: bob, position_max: 10, order_notional_max: 1_000, order_qty_max: "0.5", open_orders_max: 7}
""",
    )

    assert load({}, config).seed.commands() == [
        SetRules(Rules(shard_orders_max=500, step_orders_max=250, match_makers_max=3)),
        DefineInstrument(
            Instrument(
                "SOL-EUR",
                "SOL",
                "EUR",
                tick_size=1_000_000,
                lot_size=10_000_000,
                qty_min=5,
                qty_max=10_000,
                notional_min=250_000_000,
                band_ppm=50_000,
                maker_fee_ppm=100,
                taker_fee_ppm=250,
            )
        ),
        DefineAccount("alice", CASH),
        DefineAccount("bob", LIMITS),
        SetLimits("bob", Limits(1_000_000_000, 100_000_000_000, 50_000_000, 7)),
    ]


def test_describe_tells_value_default_and_source_of_each_setting(tmp_path):
    config = a_file(tmp_path, "port: 8100\n")

    described = describe({"TRADSYS_SHARD": "b", "DATA_DIR": "/d"}, config)

    rows = {row.name: (row.value, row.default, row.source) for row in described}
    assert list(rows) == list(Settings.__struct_fields__)
    assert rows["port"] == (8100, 8000, config)
    assert rows["shard"] == ("b", "a", "TRADSYS_SHARD")
    assert rows["data_dir"] == ("/d", "./data", "DATA_DIR")
    assert rows["host"] == ("127.0.0.1", "127.0.0.1", "default")


def test_describe_documents_each_setting_with_one_sentence_and_its_limits():
    for row in describe({}):
        assert row.doc.endswith("."), row.name
        assert row.limits, row.name
        assert row.env == ("" if row.name == "seed" else f"TRADSYS_{row.name.upper()}")


@pytest.mark.parametrize(
    "text", ["SOL-USD", "SOL-USD=venue.example", "sol-usd=http://b", "SOL-USD=http://b,"]
)
def test_another_shards_symbol_is_given_with_its_endpoint(text):
    with pytest.raises(SettingsError, match=r"other_symbols: .* is not SYMBOL=ENDPOINT"):
        load({"TRADSYS_OTHER_SYMBOLS": text})

    good = "SOL-USD=https://b.example/s/b/api/v1, DOGE-USD=http://c"
    assert load({"TRADSYS_OTHER_SYMBOLS": good}).other_symbols == tuple(good.split(", "))
