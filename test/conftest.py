"""A run in which every test skips itself is no success, where the caller says so."""

from __future__ import annotations

import os

FAIL_IF_ALL_SKIPPED = "FAIL_IF_ALL_SKIPPED"
NO_TESTS = 5  # pytest's exit code where each file skips itself as a whole


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(FAIL_IF_ALL_SKIPPED, "0") == "0" or reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    if exitstatus in (0, NO_TESTS) and skipped and not reporter.stats.get("passed"):
        reasons = sorted({str(report.longrepr[2]) for report in skipped})
        reporter.write_line("")
        reporter.write_line(f"all {len(skipped)} tests skipped themselves: {'; '.join(reasons)}")
        session.exitstatus = 1
