#![no_main]

use batchwright_fuzz::{begin, targets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: begin(), |bytes: &[u8]| targets::footer(bytes));
