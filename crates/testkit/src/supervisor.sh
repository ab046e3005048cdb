# Runs one server for a test that may die at any time, and leaves nothing behind.
#
# Each line of standard input is an order to start the server, on the port that it names; the answer is its process id or
# name, or `failed`. When the input ends, because the owner closed it or died, the server is ended and its directory removed.
# All that makes files or containers is done here, one thing after the other, so that nothing is made after the end.
#
# Before this text stand the functions `start`, which gets the port and the arguments of this script and sets `id`, and
# `end`; $dir is the server's directory.

# A lock that the owner's owner holds on a descriptor is not this server's to keep.
exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-

id=
finish() {
    end </dev/null >&2
    rm -rf "$dir"
}
trap 'finish; exit 1' HUP INT TERM
# An owner that died over its order takes no answer. Caught, not ignored: what is ignored here, the server ignores as well.
trap : PIPE

# Made by whom it is removed; nobody else may enter.
mkdir -m 700 "$dir" || exit
exec 2>"$dir/log"
echo made
while read -r port; do
    if start "$port" "$@" </dev/null; then echo "$id"; else echo failed; fi
done
finish
