#!/bin/bash
# `ostler cli` by the scripts that drive Apache's shell: it must print the same.
export OSTLER_SHELL=1
exec "$(dirname "$0")/zkcli.py" "$@"
