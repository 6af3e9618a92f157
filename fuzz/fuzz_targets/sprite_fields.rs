#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dgx_pixels_fuzz::targets::sprite_fields(data));
