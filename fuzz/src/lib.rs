//! What all fuzz targets share.

#[path = "../../tests/craft.rs"]
mod craft;
#[path = "../../tests/targets.rs"]
pub mod targets;

/// libFuzzer's glue ends the process at any panic. A panic of a library that is caught and made an error is no finding, so
/// the hook of the program is put in its place; with `BATCHWRIGHT_FUZZ_CAUGHT` set they are findings after all.
pub fn begin() {
    if std::env::var_os("BATCHWRIGHT_FUZZ_CAUGHT").is_none() {
        batchwright::kit::guard::quiet();
    }
}
