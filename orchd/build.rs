//! Has the linker write relocations in their compact form where the C library can read it: the loader reads all of them at each start,
//! and in the old form they are a megabyte that stays resident.

use std::env::var;
use std::process::Command;

/// The first glibc that reads them. What is linked so does not start with an older one, and the loader says why.
const GLIBC_MIN: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Which C library another machine has cannot be seen from here.
    let is_native = var("HOST").is_ok_and(|host| var("TARGET").is_ok_and(|target| host == target));
    if is_native && glibc().is_some_and(|version| version >= GLIBC_MIN) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, if that is its C library.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
