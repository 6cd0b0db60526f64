"""The demo: a small network trained, pruned, exported and measured, and a picture of what each predicts.

It uses every other part as a user would.
"""

from prunekit_export.demo.chain import DemoConfig as DemoConfig
from prunekit_export.demo.chain import DemoReport as DemoReport
from prunekit_export.demo.chain import DemoRow as DemoRow
from prunekit_export.demo.chain import run_demo as run_demo
