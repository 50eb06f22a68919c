from training.loop.config import load
from training.studies import ablation


def test_rows_of_the_tables_are_settings_that_differ():
    rows = ablation.BLADE_ROWS
    settings = [load(ablation.RECIPE, row) for row in rows.values()]
    assert len({str(s.model) + type(s.model).__name__ for s in settings}) == len(rows)
    assert all(s.dataset == "amodal_boxes" for s, n in zip(settings, rows) if n != "orcnn")
    by_name = {name: s.model for name, s in zip(rows, settings)}
    full = by_name["blade"]
    weights = (full.projection_weight, full.pairwise_weight, full.connectivity_weight)
    assert weights == (2, 1, 1)
    last = by_name["8_no_fusion_neither"]
    assert (last.fusion, last.uniform_weight, last.neighbour_weight) == (False, 0, 0)
