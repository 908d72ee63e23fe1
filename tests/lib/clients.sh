# Clients of other languages for the tests; to be sourced by a POSIX shell after packages.sh, in the project's root.
#
#   need_python_client   sets and exports ORCH_TEST_PYTHON: a Python with the packages of tests/clients/requirements.txt.

need_python_client() {
    ORCH_TEST_PYTHON=$PWD/target/python/bin/python
    export ORCH_TEST_PYTHON
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    if ! cmp -s tests/clients/requirements.txt target/python/requirements.txt; then
        say "fetching the Python client from PyPI"
        python3 -m venv target/python || return 1
        "$ORCH_TEST_PYTHON" -m pip install --quiet --requirement tests/clients/requirements.txt || return 1
        cp tests/clients/requirements.txt target/python/
    fi
}
