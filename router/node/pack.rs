// How files are packed that the program carries: for the build scripts that include this. What reads
// it is src/packed.rs.

/// Writes a file as its length (u32, little-endian) and DEFLATE.
fn pack(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    use std::io::Error;

    println!("cargo::rerun-if-changed={}", from.display());
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", from.display()));
    let bytes = std::fs::read(from).map_err(named)?;
    let length = u32::try_from(bytes.len()).map_err(Error::other)?;
    // A build to try something need not wait for the smallest.
    let is_release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let level = if is_release { 9 } else { 1 };
    let mut packed = length.to_le_bytes().to_vec();
    packed.extend(miniz_oxide::deflate::compress_to_vec(&bytes, level));
    std::fs::write(to, packed)
}
