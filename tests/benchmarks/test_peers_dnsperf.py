"""What dnsperf prints, read; and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import dnsperf
from benchmarks.peers.zone import Question

OUTPUT = """\
DNS Performance Testing Tool
Version 2.10.0

[Status] Command line: dnsperf -s 127.0.0.1 -p 5399 -d q -l 2 -c 8 -q 500 -t 1
[Status] Sending queries (to 127.0.0.1:5399)
> NOERROR web.shop.svc.cluster.local A 0.000873
> NXDOMAIN gone.svc.cluster.local AAAA 0.000201
> T lost.svc.cluster.local A
> NOERROR 80.10.96.10.in-addr.arpa PTR 0.000192
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         157072
  Queries completed:    156458 (99.61%)
  Queries lost:         614 (0.39%)

  Response codes:       NOERROR 140458 (89.77%), NXDOMAIN 16000 (10.23%)
  Average packet size:  request 26, response 61
  Run time (s):         2.000320
  Queries per second:   78216.485362

  Average Latency (s):  0.001922 (min 0.000013, max 0.015950)
  Latency StdDev (s):   0.001328

"""
NOTHING_CAME = """\
Statistics:

  Queries sent:         3
  Queries completed:    0 (0.00%)
  Queries lost:         3 (100.00%)

  Response codes:       \n\
  Average packet size:  request 26, response 0
  Run time (s):         0.002481
  Queries per second:   0.000000
"""


def test_statistics_are_read():
    found = dnsperf.statistics(OUTPUT)
    assert found == (157072, 156458, 614, 2.00032, 78216.485362, {"NOERROR": 140458, "NXDOMAIN": 16000}, 61)


def test_a_load_nobody_answered_has_statistics_too():
    found = dnsperf.statistics(NOTHING_CAME)
    assert (found.completed, found.lost, found.rcodes) == (0, 3, {})


@pytest.mark.parametrize("output", ["", "Error: unable to open socket\n", OUTPUT.replace("Queries lost", "Q")])
def test_output_without_statistics_is_an_error_that_shows_it(output):
    with pytest.raises(dnsperf.DnsperfError, match="no statistics"):
        dnsperf.statistics(output)


def test_a_load_at_saturation():
    saturated = dnsperf.command(Path("q"), 53, seconds=1.5)
    assert saturated[saturated.index("-l") + 1] == "1.5"
    assert saturated[saturated.index("-q") + 1] == "500"
    assert saturated[saturated.index("-s") + 1] == "127.0.0.1"


def test_warming_asks_each_question_once():
    warming = dnsperf.command(Path("q"), 53, seconds=None)
    assert warming[warming.index("-n") + 1] == "1"
    assert "-l" not in warming


def test_questions_are_written_a_line_each(tmp_path):
    dnsperf.write_questions(tmp_path / "q", [Question("a.b", "A", "NOERROR", 1), Question("c.d", "SRV", "NXDOMAIN", 0)])
    assert (tmp_path / "q").read_text() == "a.b A\nc.d SRV\n"
