# A guest of QEMU with Debian's kernel, for tests of what this machine's kernel may not have; to be sourced by a POSIX shell after
# packages.sh, as root, in the project's root.
#
#   need_guest     installs QEMU, unpacks a kernel, and packs what a guest begins with.
#                  Sets and exports ORCH_TEST_GUEST: a directory with `vmlinuz` and `begin.cpio`.
#
# In the guest `/suite` is run, which whoever boots it adds to `begin.cpio`, and its output is on the first serial line. The guest
# needs no image, no disk and no network, and no KVM; the kernel is installed nowhere.

GUEST_DIR=target/guest
# What of the kernel's modules the guest gets.
GUEST_MODULES='kernel/net kernel/drivers/net/wireguard kernel/drivers/net/vxlan kernel/drivers/net/veth.ko
    kernel/drivers/net/tun.ko kernel/crypto kernel/lib kernel/arch/x86/crypto'

need_guest() {
    ORCH_TEST_GUEST=$PWD/$GUEST_DIR
    export ORCH_TEST_GUEST
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    need ip iproute2
    need nft nftables
    [ -e "$GUEST_DIR/vmlinuz" ] || guest_kernel || return 1
    guest_begin
}

# The newest of the kernels of Debian that are made for guests.
guest_kernel() {
    update_apt
    guest_package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
    say "fetching the kernel of a guest ($guest_package)"
    unpack_package "$guest_package" "$GUEST_DIR" || return 1
    mv "$GUEST_DIR"/debian/boot/vmlinuz-* "$GUEST_DIR/vmlinuz"
}

# Packs programs, their libraries and modules. Quick, and so done each time.
guest_begin() {
    guest_root=$GUEST_DIR/root
    rm -rf "$guest_root"
    mkdir -p "$guest_root/bin" "$guest_root/sbin" "$guest_root/proc" "$guest_root/sys" "$guest_root/dev" "$guest_root/run" "$guest_root/tmp"
    cp "$(command -v busybox)" "$guest_root/bin/busybox"
    ln -s /bin/busybox "$guest_root/sbin/modprobe"
    for guest_program in "$(command -v ip)" "$(command -v nft)"; do
        guest_copy "$guest_program" "$guest_root/bin"
    done
    # Programs of Rust need these as well.
    for guest_library in libgcc_s.so.1 libm.so.6; do
        guest_copy "$(cc -print-file-name="$guest_library")" "$guest_root/lib"
    done
    guest_modules=$(cd "$GUEST_DIR/debian" && echo lib/modules/*)
    for guest_part in $GUEST_MODULES; do
        mkdir -p "$guest_root/$guest_modules/${guest_part%/*}"
        cp -r "$GUEST_DIR/debian/$guest_modules/$guest_part" "$guest_root/$guest_modules/${guest_part%/*}/"
    done
    cp "$GUEST_DIR/debian/$guest_modules"/modules.* "$guest_root/$guest_modules/"
    busybox depmod -b "$guest_root" "${guest_modules##*/}"
    cp tests/lib/guest-init "$guest_root/init"
    (cd "$guest_root" && find . | busybox cpio -o -H newc) >"$GUEST_DIR/begin.cpio" 2>/dev/null
}

# Copies a program or library with the libraries that it needs.
guest_copy() { # FILE DIRECTORY
    mkdir -p "$2"
    cp -L "$1" "$2/"
    ldd "$1" | sed -n 's,.*[[:space:]]\(/[^ ]*\) (.*,\1,p' | while read -r guest_library; do
        mkdir -p "$guest_root${guest_library%/*}"
        cp -L "$guest_library" "$guest_root$guest_library"
    done
}
