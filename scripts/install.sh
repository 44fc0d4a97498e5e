#!/bin/sh
# install.sh install|uninstall - puts what make built where it is used, or takes it away again.
# In: build version soname libs prefix bindir libdir includedir datadir mandir DESTDIR in the
# environment, as the Makefile sets them; folders may have blanks in their names.
# Invariant: both go through the same list, so what the one puts there the other takes away.
set -eu
task=$1
: "${build:?}" "${version:?}" "${soname:?}" "${libs?}" "${DESTDIR?}"
: "${prefix:?}" "${bindir:?}" "${libdir:?}" "${includedir:?}" "${datadir:?}" "${mandir:?}"
case $prefix in
/*) ;;
*) echo "PREFIX=$prefix: give it from the root, as in PREFIX=$PWD/$prefix" >&2 && exit 2 ;;
esac

# put MODE FROM FOLDER [NAME]: a file of that name, else of its own.
put() {
    to=$DESTDIR$3/${4:-$(basename "$2")}
    if [ "$task" = uninstall ]; then
        rm -f "$to"
    else
        mkdir -p "$DESTDIR$3"
        install -m "$1" "$2" "$to"
    fi
}

# put_link TARGET FOLDER NAME
put_link() {
    rm -f "$DESTDIR$2/$3"
    [ "$task" = uninstall ] || ln -s "$1" "$DESTDIR$2/$3"
}

# drop FOLDER...: those that are empty now, and what they lie in, up to the prefix.
drop() {
    for folder; do
        while case $folder in "$prefix"/*) rmdir "$DESTDIR$folder" 2>/dev/null ;; *) false ;; esac
        do folder=$(dirname "$folder"); done
    done
}

# By ${prefix}, where it lies below: pkg-config --define-prefix finds a tree that was moved.
# shellcheck disable=SC2016  # pkg-config expands it
variable() {
    case $2 in
    "$prefix"/*) printf '%s=${prefix}%s\n' "$1" "${2#"$prefix"}" ;;
    *) printf '%s=%s\n' "$1" "$2" ;;
    esac
}

# Quotes: a name with blanks stays one word.
print_pkg_config() {
    printf 'prefix=%s\n' "$prefix"
    variable libdir "$libdir"
    variable includedir "$includedir"
    cat <<END

Name: picograd
Description: a small deep-learning framework and compiler
Version: $version
Cflags: -I"\${includedir}"
Libs: -L"\${libdir}" -lpicograd
Libs.private: $libs
END
}

[ "$task" = uninstall ] || print_pkg_config >"$build/public/picograd.pc"
put 755 "$build/picograd" "$bindir"
put 644 include/picograd.h "$includedir"
put 755 "$build/libpicograd.so" "$libdir" "libpicograd.so.$version"
put_link "libpicograd.so.$version" "$libdir" "$soname"
put_link "$soname" "$libdir" libpicograd.so
put 644 "$build/public/libpicograd.a" "$libdir"
put 644 "$build/public/picograd.pc" "$libdir/pkgconfig"
put 644 "$build/public/picograd.bash" "$datadir/bash-completion/completions" picograd
if [ "$task" = install ]; then
    for page in "$build"/public/man/*.1; do put 644 "$page" "$mandir/man1"; done
else
    rm -f "$DESTDIR$mandir/man1/picograd.1" "$DESTDIR$mandir/man1/picograd-"*.1
fi

case $task:$DESTDIR$prefix in
uninstall:/usr | uninstall:/usr/local) ;; # their folders are the system's
uninstall:*)
    drop "$libdir/pkgconfig" "$datadir/bash-completion/completions" "$mandir/man1" "$bindir" \
        "$includedir"
    ;;
esac
# Programs find a library there when the cache of the loader has it.
case $DESTDIR$prefix in
/usr | /usr/local) ldconfig 2>/dev/null || true ;;
esac
