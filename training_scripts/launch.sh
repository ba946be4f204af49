# Shared by the run_*.sh scripts: sets the project up, then trains. To be sourced.
#
#     launch CONFIG RECIPE "$@"
#
# With a GPU it trains CONFIG, a file of configs/. Without one it says so and trains the embedded small models on the generated city with
# RECIPE, a file of configs/recipe/: from right answers where CONFIG is one of supervised fine-tuning (sft_*), else by reward. A shipped recipe
# that the command line names is taken in its embedded form. hardware=NAME is for GPUs; a dry run that names it shows CONFIG on any machine.

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

launch() {
    local config=$1 recipe=$2 embedded=embedded word words=()
    shift 2
    if [[ $verl_socio_device == gpu || (" $* " == *" --dry-run "* && " $* " == *" hardware="*) ]]; then
        exec verl-socio train "$config" "$@"
    fi
    if [[ " $*" == *" hardware="* ]]; then
        echo "hardware: is for GPUs, and this clone is set up for a CPU. Fix: leave it out, or add --dry-run to see what it sets." >&2
        return 2
    fi
    echo "No GPU here: training the embedded small models (same code, Qwen2.5-VL and SAM2 at a few million parameters)."
    [[ $config != sft_* ]] || embedded=sft_embedded
    # The default of both configurations needs no word, and a recipe on the command line goes before the script's.
    [[ $recipe == embedded/socioreasoner || " $*" == *" recipe="* ]] || words=("recipe=$recipe")
    for word in "$@"; do
        # The small model was taught its own prompts only, not the published ones.
        if [[ $word == recipe=* && -f $verl_socio_root/configs/recipe/embedded/${word#recipe=}.yaml ]]; then
            word=recipe=embedded/${word#recipe=}
        fi
        words+=("$word")
    done
    exec verl-socio train "$embedded" "${words[@]}"
}
