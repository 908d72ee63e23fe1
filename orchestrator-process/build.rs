//! Builds the supervisor with the C compiler: static where there is a static libc, so that it needs nothing at run time.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 3] = ["src/supervisor.c", "src/attach.c", "src/forward.c"];

fn main() {
    for file in SOURCES.iter().chain(&["src/supervisor.h"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let program = out.join("supervisor");
    let attempts = [&["-static"][..], &[][..]];
    let built = attempts.iter().any(|flags| compile(&program, flags));
    assert!(
        built,
        "the C compiler could not build {SOURCES:?}; is one installed, with the libc headers?"
    );
}

fn compile(program: &Path, flags: &[&str]) -> bool {
    let mut command = cc::Build::new().get_compiler().to_command();
    let options = ["-std=gnu11", "-Os", "-g0", "-s", "-Wall", "-Wextra", "-o"];
    let status = command.args(options).arg(program).args(flags).args(SOURCES).status();
    status.is_ok_and(|status| status.success())
}
