# completion.sh FILE: what the installed completion offers in a shell.
source "$1"
compopt() { :; } # Outside of a completion bash refuses the builtin.

# offers WORDS... -- EXPECTED...: the words typed, and what must be offered.
offers() {
  COMP_WORDS=()
  while [[ $1 != -- ]]; do COMP_WORDS+=("$1"); shift; done
  shift
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _kvc
  for word; do
    [[ " ${COMPREPLY[*]} " == *" $word "* ]] || {
      echo "completion of '${COMP_WORDS[*]}': expected $word, found: ${COMPREPLY[*]}" >&2
      exit 1
    }
  done
}

offers kvc c -- check compile cache
offers kvc compile --em -- --emit=
offers kvc compile --emit = p -- ptx
offers kvc verify --diagnostics = -- text json
offers kvc check "${BASH_SOURCE[0]%.sh}" -- "${BASH_SOURCE[0]}"
