import subprocess
import sys

# A fresh process: in this one other tests count.
SHOW = """
from longrope_server.front_end import metrics
from prometheus_client import generate_latest
metrics.prepare_sets([8192, 32768])
print(generate_latest().decode())
"""


def test_what_alerts_watch_is_0_before_anything_happens() -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    series = set(shown.stdout.splitlines())
    assert {
        'longrope_refusals_total{reason="server_full"} 0.0',
        'longrope_accounting_failures_total{part="ledger"} 0.0',
        'longrope_accounting_failures_total{part="log"} 0.0',
        'longrope_requests_total{factor_set="32768",finish_reason="error"} 0.0',
        'longrope_promotions_total{from="8192",to="32768"} 0.0',
    } <= series
