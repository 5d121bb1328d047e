# What continuous integration runs, step by step. `just` lists them.
default:
    @just --list

install:
    pip install -e ".[dev]"

lint:
    ruff check .
    ruff format --check .
    mypy

format:
    ruff format .
    ruff check --fix .

test *ARGS:
    pytest {{ARGS}}

ci:
    .ci/run

# what predseg is made of, as CycloneDX; and whether anything of it is known to be vulnerable
sbom FILE="sbom.json":
    python .ci/supply.py sbom {{FILE}}

audit:
    python .ci/supply.py audit

# both engines on a real download, with whole trainings, and forty random streams: minutes
spark *ARGS:
    PREDSEG_LONG=1 pytest -n 0 tests/test_spark.py tests/live/test_spark.py {{ARGS}}

# a million decisions of random rules, reference against batch
verify *ARGS:
    predseg verify --trees 1000 {{ARGS}}

# 2,000 experiments without an effect and with a known one
simulations *ARGS:
    PREDSEG_LONG=1 pytest -n 0 tests/outcomes {{ARGS}}

# messages against kill -9, opting out and corrections, at length: about half an hour
sending *ARGS:
    PREDSEG_LONG=1 pytest -n 0 -s tests/activation {{ARGS}}

# models, rules, events, messages and files under attack: the figures of docs/trust.md
trust *ARGS:
    nice -n 10 python -m benchmarks.trust {{ARGS}}

# the scripts that draw the charts of the report, as one file; their licences stand beside it
vega:
    pip install vl-convert-python==1.9.0
    python -c "import vl_convert as v, pathlib; pathlib.Path('predseg/outcomes/report/vega.js').write_text(v.javascript_bundle(), 'utf-8')"
