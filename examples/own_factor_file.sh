#!/usr/bin/env bash
# Make a factor file for a model of your own, check it, and look at it.
#
#     examples/own_factor_file.sh MODEL WINDOW LENGTH FACTORS
#     examples/own_factor_file.sh "$(longrope model)" 8192 32768 factors.json
#
# MODEL is the model's directory, WINDOW its own window (max_position_embeddings in its config.json),
# LENGTH the window that it gets, and FACTORS the file to write; a picture of the factors is written
# beside it. The file has two sets: up to WINDOW the model's own rotation, and up to LENGTH YaRN. YaRN
# needs nothing but the config; `longrope factors search` finds factors for the weights.
set -euo pipefail
if [[ $# != 4 ]]; then
  echo "Usage: $0 MODEL WINDOW LENGTH FACTORS" >&2
  exit 2
fi
model=$1 window=$2 length=$3 factors=$4

longrope factors make --model "$model" --method yarn --length "$window" --length "$length" -o "$factors"
longrope factors validate "$factors" --model "$model"
longrope factors show "$factors" --plot "${factors%.json}.png"
echo "To serve it: longrope serve $model --factors $factors"
