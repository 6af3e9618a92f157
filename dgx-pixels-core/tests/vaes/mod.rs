//! VAEs that tests make of the small models' own.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// Copies a VAE that ends in the opposite of every color.
pub(crate) fn inverse_vae(from: &Path, to: &Path) {
    const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
    fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    inverse_file(&from.join(WEIGHTS), "", &to.join(WEIGHTS));
}

/// Copies the tensors of a file that begin with `prefix`, with the last layer of the decoder
/// negated.
pub(crate) fn inverse_file(from: &Path, prefix: &str, to: &Path) {
    let bytes = fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data: Vec<(String, Vec<u8>)> = tensors
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            if name.contains("decoder.conv_out.") {
                assert_eq!(view.dtype(), safetensors::Dtype::F32);
                // The sign of a float in little-endian order.
                data.chunks_exact_mut(4).for_each(|number| number[3] ^= 0x80);
            }
            (name.to_owned(), data)
        })
        .collect();
    let views = data.iter().map(|(name, data)| {
        let view = tensors.tensor(name).unwrap();
        (name, TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap())
    });
    fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}
