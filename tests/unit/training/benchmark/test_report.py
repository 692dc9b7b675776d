"""Tables and pictures say what was measured, no more and no less."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInputError
from training.benchmark.metrics import CostBounds, CurvePoint
from training.benchmark.plots import frontier_figure, spread, write_frontiers
from training.benchmark.protocol import PolicyResult, PoolResult, RivalResult, SeedResult
from training.benchmark.report import earned_of, markdown, summarise, write_report


def point(weight, quality, cost):
    """Return a point whose predicted cost is twice the realised one."""
    return CurvePoint(
        cost_weight=weight, quality=quality, realised_usd=cost, predicted_usd=2 * cost
    )


def rival(name, earned, costs=(0.004, 0.001), fit_s=1.0):
    """Return a rival of two points: all that it earns, and half of it at the lesser cost."""
    quality = float(np.mean(earned))
    sweep = (point(0.0, quality, costs[0]), point(1.0, quality / 2, costs[1]))
    return RivalResult(
        name=name,
        fit_s=fit_s,
        earned_N=np.array(earned, dtype=float),
        sweep=sweep,
        chosen=sweep[1],
    )


def policy(earned, cost=0.008):
    """Return a policy of one point."""
    return PolicyResult(
        earned_N=np.array(earned, dtype=float), point=point(0.0, float(np.mean(earned)), cost)
    )


def seed_result(rivals, *, seed=0, ids="abcd", single=(1, 0, 0, 0), oracle=(1, 1, 1, 1)):
    """Return one seed's result on four queries, each a group of its own."""
    return SeedResult(
        seed=seed,
        num_train=14,
        num_validation=2,
        query_ids=tuple(ids),
        group_N=np.arange(len(ids)),
        bounds=CostBounds(0.001, 0.016),
        best_single=policy(single),
        oracle=policy(oracle),
        rivals=tuple(rivals),
    )


def pool(*seeds, name="garden", has_costs=True):
    """Return a pool of two candidates."""
    return PoolResult(
        pool=name, candidate_ids=("aster", "birch"), has_costs=has_costs, seeds=seeds
    )


def report_of(*results, router="ours"):
    """Return a report with intervals from a fixed seed."""
    rng = np.random.default_rng(0)
    return summarise(results, router, conditions="Two cores, commit 0123.", rng=rng)


@pytest.fixture
def garden():
    """Return a pool where ours earns 3 of 4 and theirs 2 of 4."""
    return pool(seed_result([rival("ours", (1, 1, 1, 0)), rival("theirs", (1, 0, 1, 0))]))


def test_rows_are_the_best_single_the_rivals_and_the_oracle(garden):
    """With their mean quality: 1/4, 3/4, 2/4, 4/4."""
    (table,) = report_of(garden).pools
    assert [(row.policy, row.quality) for row in table.rows] == [
        ("best_single", 0.25),
        ("ours", 0.75),
        ("theirs", 0.5),
        ("oracle", 1.0),
    ]
    assert (table.num_candidates, table.num_queries, table.num_seeds) == (2, 4, 1)


def test_gains_are_those_of_the_router_under_test(garden):
    """3/4 - 2/4 = .25 over theirs, 3/4 - 1/4 = .5 over the best single, -.25 over the oracle."""
    (table,) = report_of(garden).pools
    assert table.row("ours").gain is None
    assert table.row("theirs").gain.difference == 0.25
    assert table.row("best_single").gain.difference == 0.5
    assert table.row("oracle").gain.difference == -0.25
    assert table.row("nobody") is None


def test_shares_of_the_gap(garden):
    """(3/4 - 1/4) / (4/4 - 1/4) = 2/3; theirs 1/3."""
    (table,) = report_of(garden).pools
    shares = [row.share_of_gap for row in table.rows]
    assert shares == pytest.approx([0.0, 2 / 3, 1 / 3, 1.0])


def test_curve_figures(garden):
    """Points (.001, .375) and (.004, .75), best single .25 at .008, bounds .001 to .016.

    nAUC (.375 + .75)/2 = .5625; QNC .001/.008 = 1/8; chosen is the first, with C = 1:
    1.1 * .375 / 1.0375 = .3976. Predicted costs are twice as high: C = log2(8)/log2(16) = 3/4.
    """
    (table,) = report_of(garden).pools
    ours = table.row("ours")
    assert ours.realised.nauc == pytest.approx(0.5625)
    assert ours.realised.peak_quality == 0.75
    assert ours.realised.quality_neutral_cost == pytest.approx(0.125)
    assert ours.realised.rank_score == pytest.approx(1.1 * 0.375 / 1.0375)
    assert ours.predicted.nauc == pytest.approx(0.5625)
    assert ours.predicted.rank_score == pytest.approx(1.1 * 0.375 * 0.75 / (0.0375 + 0.75))
    assert table.row("oracle").realised is None
    assert table.row("oracle").by_quality.realised_usd == 0.008


def test_seeds_are_averaged_and_an_infinite_cost_survives():
    """Of three seeds the best single's .9 is reached in none, one or two: QNC inf, inf or 1/8."""

    def quality_neutral_cost(num_reached):
        seeds = [
            seed_result([rival("ours", (1, 1, 1, 1)), rival("theirs", (0, 0, 0, 0))], seed=seed)
            if seed < num_reached
            else seed_result(
                [rival("ours", (0, 0, 0, 0), fit_s=4.0), rival("theirs", (0, 0, 0, 0))], seed=seed
            )
            for seed in range(3)
        ]
        return report_of(pool(*seeds)).pools[0].row("ours")

    assert quality_neutral_cost(0).realised.quality_neutral_cost == math.inf
    assert quality_neutral_cost(1).realised.quality_neutral_cost == math.inf
    twice = quality_neutral_cost(2)
    assert twice.realised.quality_neutral_cost == pytest.approx(0.125)
    assert twice.realised.peak_quality == pytest.approx(2 / 3)
    assert math.isfinite(twice.realised.nauc)
    assert twice.fit_s == pytest.approx(2.0)


def test_a_rival_named_as_a_reference_takes_its_place():
    """It has a curve, and there is no second row of its name."""
    rivals = [rival("best_single", (1, 0, 0, 0)), rival("ours", (1, 1, 1, 0))]
    rivals.append(rival("oracle", (1, 1, 1, 1)))
    (table,) = report_of(pool(seed_result(rivals))).pools
    assert [row.policy for row in table.rows] == ["best_single", "ours", "oracle"]
    assert all(row.realised is not None for row in table.rows)
    drawn = frontier_figure(pool(seed_result(rivals)), "ours").axes[0].texts
    assert [text.get_text() for text in drawn] == ["ours", "best_single", "oracle"]


def test_a_query_in_two_pools_and_seeds_is_one_cluster():
    """Eight entries in two pools, six queries: two of them in both."""
    one = pool(seed_result([rival("ours", (1, 1, 1, 0))], ids="abcd"))
    other = pool(seed_result([rival("ours", (1, 0, 1, 0))], ids="cdef"), name="orchard")
    earned = earned_of([one, other], ["ours"])
    assert earned.pool_N.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert earned.query_N[2:4].tolist() == earned.query_N[4:6].tolist()
    assert len(set(earned.cluster_N.tolist())) == 6
    assert earned.quality_NA[:, 0].tolist() == [1, 1, 1, 0, 1, 0, 1, 0]


def test_over_all_pools_only_who_ran_everywhere_is_compared(garden):
    """Theirs ran in one pool of two; ours is .5 and .25 over the best single: .375 over both."""
    orchard = pool(seed_result([rival("ours", (1, 0, 1, 0))], ids="efgh"), name="orchard")
    report = report_of(garden, orchard)
    assert [row.policy for row in report.overall] == ["best_single", "oracle"]
    assert report.overall[0].pools_alike.difference == pytest.approx(0.375)
    assert report.overall[0].pools_alike.num_queries == 8
    assert "| theirs | 50.0 (+25.0, +0.0 to +75.0) | - |" in markdown(report)


def test_what_is_told_from_nought_needs_no_more_queries():
    """Half of 100 queries gained or lost is clear: 0 more. As often better as worse: inf."""
    none, every = np.zeros(100), np.ones(100)
    ours = np.arange(100) % 2
    rivals = [rival("ours", ours), rival("swapped", 1 - ours)]
    ids = [f"q{n}" for n in range(100)]
    result = pool(seed_result(rivals, ids=ids, single=none, oracle=every))
    needed = {row.policy: row.queries_needed for row in report_of(result).overall}
    assert needed == {"best_single": 0.0, "swapped": math.inf, "oracle": 0.0}


def test_what_is_in_doubt_needs_more_queries(garden):
    """Theirs loses one query of four: the interval ends at 0, and more would tell."""
    (theirs,) = (row for row in report_of(garden).overall if row.policy == "theirs")
    half_width = (theirs.pools_alike.high - theirs.pools_alike.low) / 2
    assert theirs.queries_needed == math.ceil(4 * ((half_width / 0.25) ** 2 - 1))


def test_the_page_has_every_table(garden):
    """Quality with gains, all pools, shares, and each pool's curves and costs."""
    page = markdown(report_of(garden))
    assert page.startswith("# Routers compared\n\nTwo cores, commit 0123.\n")
    assert "Under test: **ours**." in page
    for line in (
        "| **ours** | 75.0 |",
        "| theirs | 50.0 (+25.0, +0.0 to +75.0) |",
        "| **ours** | 0.667 |",
        "2 candidates, 4 test queries, 1 seeds.",
        "| ours | 0.5625 | 0.7500 | 0.125 | 0.3976 | 0.5625 | 0.7500 | 0.125 | 0.3929 |",
        "| ours | 0 | 75.0 | 4 | 8 | 1 | 37.5 | 1 | 2 | 1.0 |",
        "| oracle | 0 | 100.0 | 8 | 16 | - | - | - | - | - |",
    ):
        assert line in page
    widths = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert set(widths) == {3, 5, 10, 11}


def test_a_pool_without_costs_has_no_cost_tables(garden):
    """It says so."""
    free = pool(*garden.seeds, has_costs=False)
    page = markdown(report_of(free))
    assert "No cost is known." in page
    assert "nAUC" not in page


def test_the_report_is_written_as_page_and_json(garden, tmp_path):
    """Strict JSON, of all figures."""
    report = report_of(garden)
    write_report(report, tmp_path / "new", "routers")
    assert (tmp_path / "new" / "routers.md").read_text() == markdown(report)
    record = json.loads((tmp_path / "new" / "routers.json").read_text())
    assert record["router"] == "ours"
    assert record["pools"][0]["rows"][1]["realised"]["nauc"] == pytest.approx(0.5625)
    assert record["overall"][1]["pools_alike"]["difference"] == 0.25


@pytest.mark.parametrize("router", ["nobody", "theirs"])
def test_a_router_that_did_not_run_everywhere_is_refused(garden, router):
    """Nothing can be held against it."""
    orchard = pool(seed_result([rival("ours", (1, 0, 1, 0))], ids="efgh"), name="orchard")
    with pytest.raises(InvalidInputError, match="every pool") as caught:
        report_of(garden, orchard, router=router)
    assert caught.value.field == "router"
    with pytest.raises(InvalidInputError, match="every pool"):
        report_of(router=router)


def test_pictures_are_drawn_of_pools_with_costs(garden, tmp_path):
    """One PNG each."""
    free = pool(*garden.seeds, name="free", has_costs=False)
    paths = write_frontiers([garden, free], "ours", tmp_path / "new")
    assert [path.name for path in paths] == ["frontier-garden.png"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_a_picture_names_every_policy_in_both_panels(garden):
    """The router's name is bold and its line the heaviest; realised and predicted costs differ."""
    figure = frontier_figure(garden, "ours")
    realised, predicted = figure.axes
    assert [axes.get_title() for axes in figure.axes] == [
        "garden, realised cost",
        "garden, predicted cost",
    ]
    for axes in figure.axes:
        names = {text.get_text(): text.get_fontweight() for text in axes.texts}
        assert names == {
            "ours": "bold",
            "theirs": "normal",
            "best_single": "normal",
            "oracle": "normal",
        }
    widths = [line.get_linewidth() for line in realised.lines]
    assert widths.index(max(widths)) == 0
    assert realised.lines[0].get_xdata() == pytest.approx([1.0, 4.0])
    assert realised.lines[0].get_ydata() == pytest.approx([37.5, 75.0])
    assert predicted.lines[0].get_xdata() == pytest.approx([2.0, 8.0])


def test_a_wide_range_of_costs_is_drawn_on_a_logarithmic_axis(garden):
    """From .001 to .008 USD is not wide; from .0001 it is."""
    wide = pool(seed_result([rival("ours", (1, 1, 1, 0), costs=(0.004, 0.0001))]))
    assert frontier_figure(garden, "ours").axes[0].get_xscale() == "linear"
    assert frontier_figure(wide, "ours").axes[0].get_xscale() == "log"


def test_labels_that_would_touch_are_spread_about_their_mean():
    """.5 and .5 with a gap of .1: .45 and .55; one far away stays."""
    assert spread([0.5, 0.9, 0.5], 0.1) == pytest.approx([0.45, 0.9, 0.55])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_no_label_lies_on_another(wanted):
    """All keep the gap, in the order that they want."""
    placed = spread(wanted, 0.05)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= 0.05 - 1e-9).all()
