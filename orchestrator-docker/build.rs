//! Builds the pause program of sandbox containers with the C compiler, as a static Linux program to be embedded.

use std::env;
use std::path::PathBuf;

const SOURCE: &str = "src/pause.c";

/// For machines whose system calls the source knows: no C library, one small page.
const BARE: &[&str] = &[
    "-DORCHESTRATOR_PAUSE_BARE",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-Wl,--build-id=none",
    "-Wl,-z,noseparate-code",
];

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let target_os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    assert!(target_os == "linux", "the pause program runs on linux only, not on {target_os:?}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");

    let compiler = cc::Build::new().cargo_metadata(false).opt_level_str("s").get_compiler();
    let mut failures = Vec::new();
    for flags in [BARE, &[]] {
        let mut command = compiler.to_command();
        command.args(flags).args(["-static", "-no-pie", "-fno-pie", "-s", "-o"]);
        command.arg(&out).arg(SOURCE);
        match command.output() {
            Ok(output) if output.status.success() => return,
            Ok(output) => {
                failures.push(format!("{command:?}\n{}", String::from_utf8_lossy(&output.stderr)))
            }
            Err(error) => failures.push(format!("{command:?}\n{error}")),
        }
    }
    panic!("no C compiler could build {SOURCE}:\n{}", failures.join("\n"));
}
