//! The C header and the Rust types have one layout: a C compiler says where it puts each field.

use std::fs;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use dgx_pixels_core::abi::{
    self, ByteSink, CanvasState, DeviceMemory, Functions, ImageSink, LatentSink, Sink, Text,
};

/// The fields of a structure in Rust, each with what a C compiler says of the same field in C.
macro_rules! fields {
    ($rust:ty, $c:literal: $($field:ident),* $(,)?) => {
        (
            vec![$((concat!($c, ".", stringify!($field)), offset_of!($rust, $field)),)* ($c, size_of::<$rust>())],
            concat!(
                $("say(\"", $c, ".", stringify!($field), "\", offsetof(", $c, ", ", stringify!($field), "));\n",)*
                "say(\"", $c, "\", sizeof(", $c, "));\n"
            ),
        )
    };
}

#[test]
fn every_field_lies_at_the_same_place_in_both() {
    let structures = [
        fields!(Text, "dgx_text": data, len),
        fields!(Sink, "dgx_sink": context, write),
        fields!(ImageSink, "dgx_image_sink": context, write),
        fields!(LatentSink, "dgx_latent_sink": context, write),
        fields!(ByteSink, "dgx_byte_sink": context, write),
        fields!(CanvasState, "dgx_canvas_state": steps_done, steps, rows),
        fields!(DeviceMemory, "dgx_device_memory": total_bytes, available_bytes, used_bytes, peak_bytes),
        fields!(
            Functions, "dgx_pixels_torch":
            start, kernels, matrix_rate,
            device_open, device_hardware, device_memory, device_reset_peak, device_empty_cache, device_limit,
            device_close,
            model_load, model_begin, model_step, model_finish, model_preview, model_latents, model_flops,
            model_free,
            canvas_state, canvas_free,
            decoding_wait, decoding_free,
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let [source, program] = ["layout.c", "layout"].map(|name| folder.path().join(name));
    let lines: String = structures.iter().map(|(_, lines)| *lines).collect();
    let text = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"dgx_pixels_torch.h\"\n\
         static void say(const char *name, size_t value) {{ printf(\"%s %zu\\n\", name, value); }}\n\
         int main(void) {{\n{lines}say(\"version\", DGX_PIXELS_TORCH_VERSION);\n\
         say(\"panicked\", DGX_OK + 10 * DGX_FAILED + 100 * DGX_PANICKED);\nreturn 0;\n}}\n"
    );
    fs::write(&source, text).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let compiled = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .args([include.as_path(), &source, Path::new("-o"), &program])
        .status();
    assert!(compiled.unwrap().success());
    let said = Command::new(&program).output().unwrap().stdout;

    let mut expected: Vec<_> = structures.into_iter().flat_map(|(fields, _)| fields).collect();
    expected.push(("version", abi::VERSION as usize));
    expected.push(("panicked", (abi::OK + 10 * abi::FAILED + 100 * abi::PANICKED) as usize));
    let expected: Vec<_> = expected.iter().map(|(name, value)| format!("{name} {value}")).collect();
    assert_eq!(String::from_utf8(said).unwrap().lines().collect::<Vec<_>>(), expected);
}
