# Shared by the run_*.sh scripts: sets the project up, then trains. To be sourced.
#
#     launch CONFIG RECIPE "$@"
#
# With a GPU it trains CONFIG, a file of configs/. Without one it says so and trains the embedded small models on the generated city with
# RECIPE, a file of configs/recipe/: from right answers where CONFIG is one of supervised fine-tuning (sft_*), else by reward. A dry run that
# names its hardware shows CONFIG on any machine.

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

launch() {
    local config=$1 recipe=$2 embedded=embedded
    shift 2
    if [[ $verl_socio_device == gpu || (" $* " == *" --dry-run "* && " $* " == *" hardware="*) ]]; then
        exec verl-socio train "$config" "$@"
    fi
    echo "No GPU here: training the embedded small models (same code, Qwen2.5-VL and SAM2 at a few million parameters)."
    [[ $config != sft_* ]] || embedded=sft_embedded
    # The default of both configurations needs no word, and a recipe on the command line goes before the script's.
    [[ $recipe == embedded/socioreasoner || " $*" == *" recipe="* ]] || set -- "recipe=$recipe" "$@"
    exec verl-socio train "$embedded" "$@"
}
