"""Every query of the operator's boards and alerts, asked of a real Prometheus that looks at a real operator
while one release after the other goes on."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
import yaml

from dashboards.source.boards import OF_THE_OPERATOR
from dashboards.source.live import MissingTool, Prometheus, as_asked, panels_of, tool
from dashboards.source.write import DASHBOARDS
from tests.kube.control.process import CHART, helm

pytestmark = pytest.mark.timeout(300)

WINDOW = "120s"
PATIENCE_S = 120

EMPTY: dict[tuple[str, str, str], str] = {}
"""Queries of panels that may be empty, (board, panel, legend), each with its reason."""


def panel_queries():
    return {
        (name, panel["title"], target["legendFormat"]): as_asked(target["expr"], WINDOW)
        for name in OF_THE_OPERATOR
        for panel in panels_of(json.loads((DASHBOARDS / f"{name}.json").read_text()))
        for target in panel["targets"]
    }


def rules_of_the_chart(plane):
    text = helm(
        plane, "template", "op", str(CHART), "--kube-version", "1.35.4", "--set", "monitoring.enabled=true"
    )
    (found,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "PrometheusRule"]
    return found["spec"]


def has_values(prometheus, expr):
    return any(math.isfinite(float(sample["value"][1])) for sample in prometheus.query(expr))


def test_every_panel_and_every_alert_has_something_to_look_at(run, left, plane, tmp_path):
    try:
        tool("prometheus")
    except MissingTool as missing:
        pytest.fail(str(missing))
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rules_of_the_chart(plane)))

    async def releases(venues):
        """A good one and a slow one in turns, for ever."""
        turn = 1
        while True:
            turn += 1
            image = f"registry.example/tradsys:{turn}"
            if turn % 2:
                venues.node.slow[image] = 20_000.0
            await venues.ask(image=image)
            await venues.until_phase("Gating", passes=600)
            await venues.until_phase("Failed" if turn % 2 else "Stable", passes=600)

    async def story():
        async with left("operator-0") as (venues, operator):
            with Prometheus(tmp_path / "prometheus", {"operator": operator.port}, [rules]) as prometheus:
                await venues.serve()
                going_on = asyncio.create_task(releases(venues))
                waiting = {each: expr for each, expr in panel_queries().items() if each not in EMPTY}
                for group in await asyncio.to_thread(prometheus.rule_groups):
                    for rule in group["rules"]:
                        for selector in prometheus.selectors(rule["query"]):
                            waiting["alert", rule["name"], selector] = selector
                deadline = asyncio.get_running_loop().time() + PATIENCE_S
                while waiting and asyncio.get_running_loop().time() < deadline:
                    if going_on.done():
                        await going_on
                    for each, expr in list(waiting.items()):
                        if await asyncio.to_thread(has_values, prometheus, expr):
                            del waiting[each]
                    await asyncio.sleep(1)
                going_on.cancel()
                await asyncio.gather(going_on, return_exceptions=True)

                assert waiting == {}
                errors = [
                    rule["lastError"]
                    for group in prometheus.rule_groups()
                    for rule in group["rules"]
                    if rule["health"] == "err"
                ]
                assert errors == []

    run(story())
