//! Builds the supervisor with the C compiler: static where there is a static libc, so that it needs nothing at run time.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let source = "src/supervisor.c";
    println!("cargo::rerun-if-changed={source}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let program = out.join("supervisor");
    let attempts = [&["-static"][..], &[][..]];
    let built = attempts.iter().any(|flags| compile(source, &program, flags));
    assert!(
        built,
        "the C compiler could not build {source}; is one installed, with the libc headers?"
    );
}

fn compile(source: &str, program: &Path, flags: &[&str]) -> bool {
    let compiler = cc::Build::new().get_compiler();
    let path = compiler.path().to_owned();
    let mut command = Command::new(path);
    let status = command
        .args(["-std=gnu11", "-Os", "-s", "-Wall", "-Wextra", "-o"])
        .arg(program)
        .args(flags)
        .arg(source)
        .status();
    status.is_ok_and(|status| status.success())
}
