//! The README shows the example as it is.

use std::path::Path;

#[test]
fn the_readme_shows_the_embed_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let example = read("examples/embed.rs");
    let (_header, program) = example.split_once("\n\n").expect("a header and a program");
    let fenced = format!("```rust\n{program}```");
    assert!(read("README.md").contains(&fenced), "README.md lacks examples/embed.rs as it is now");
    assert!(
        read("docs/guides/embedding.md").contains(&fenced),
        "the guide lacks examples/embed.rs as it is now"
    );
}
