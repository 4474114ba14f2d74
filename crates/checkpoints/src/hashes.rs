//! Checksums of files, and those of published checkpoints.

use crate::error::{Result, file};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The sha256 of a file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let fail = |error: std::io::Error| file(path, latentrace_files::said(&error));
    let mut open = File::open(path).map_err(fail)?;
    let (mut hasher, mut bytes) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match open.read(&mut bytes).map_err(fail)? {
            0 => break,
            read => hasher.update(&bytes[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The published file with a checksum.
pub fn known(sha256: &str) -> Option<&'static str> {
    PUBLISHED.iter().find(|(sum, _)| *sum == sha256).map(|(_, published)| *published)
}

/// Published weight files by their checksums, as the hub lists them. Both 1.x checkpoints have the same VAE.
const PUBLISHED: &[(&str, &str)] = &[
    (
        "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e",
        "CompVis/stable-diffusion-v1-4: text_encoder/model.fp16.safetensors",
    ),
    (
        "7b3a12df205cb3c74dd4eae4354d93f606ae6b3bc29d5d06fd97921cb9ad8a81",
        "CompVis/stable-diffusion-v1-4: text_encoder/model.safetensors",
    ),
    (
        "a35404d03ec8f977715a4d2a080ddf72e2144f2ee49bb1ee213258bc64f9cc87",
        "CompVis/stable-diffusion-v1-4: unet/diffusion_pytorch_model.fp16.safetensors",
    ),
    (
        "ac3d1bff03f9e9a6f8671b5a7a3fd984f90185c84e407bc569f97c1cce7445fd",
        "CompVis/stable-diffusion-v1-4: unet/diffusion_pytorch_model.non_ema.safetensors",
    ),
    (
        "145a07e0f05ec5bbe6e2e9faf608bdb311caf708895cac8c8ed713c59864e1e8",
        "CompVis/stable-diffusion-v1-4: unet/diffusion_pytorch_model.safetensors",
    ),
    (
        "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c",
        "CompVis/stable-diffusion-v1-4: vae/diffusion_pytorch_model.fp16.safetensors",
    ),
    (
        "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
        "CompVis/stable-diffusion-v1-4: vae/diffusion_pytorch_model.safetensors",
    ),
    (
        "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334",
        "stable-diffusion-v1-5/stable-diffusion-v1-5: text_encoder/model.safetensors",
    ),
    (
        "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1",
        "stable-diffusion-v1-5/stable-diffusion-v1-5: unet/diffusion_pytorch_model.safetensors",
    ),
    (
        "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        "stable-diffusion-v1-5/stable-diffusion-v1-5: v1-5-pruned-emaonly.safetensors",
    ),
    (
        "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6",
        "stable-diffusion-v1-5/stable-diffusion-v1-5: v1-5-pruned.safetensors",
    ),
    (
        "cce6febb0b6d876ee5eb24af35e27e764eb4f9b1d0b7c026c8c3333d4cfc916c",
        "Stable Diffusion 2.1: text_encoder/model.safetensors",
    ),
    (
        "1238522277c48923ff2751e238f2742c562e45643f3d50cc93d163cb30638b0c",
        "Stable Diffusion 2.1: unet/diffusion_pytorch_model.safetensors",
    ),
    (
        "dcd690123cfc64383981a31d955694f6acf2072a80537fdb612c8e58ec87a8ac",
        "Stable Diffusion 2.1: v2-1_768-ema-pruned.safetensors",
    ),
    (
        "ff144a49841cf383adbc68841272ce639e1032b0a1f0f6586347feb953c244f4",
        "Stable Diffusion 2.1: v2-1_768-nonema-pruned.safetensors",
    ),
    (
        "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
        "Stable Diffusion 2.1: vae/diffusion_pytorch_model.safetensors",
    ),
    (
        "6dfae3e5f7d459b50f4b0850ead945972c75bb0e1897628933e169eb43974214",
        "Stable Diffusion 2.1 base: unet/diffusion_pytorch_model.safetensors",
    ),
    (
        "df955bdf6b682338ea9b55dfc0d8f3475aadf4836e204893d28b82355e0956d2",
        "Stable Diffusion 2.1 base: v2-1_512-ema-pruned.safetensors",
    ),
    (
        "fc4f9fe7528b2ee3de21971fb805bbf74d680bf1ab5b5f9c08379b0397b82a9d",
        "Stable Diffusion 2.1 base: v2-1_512-nonema-pruned.safetensors",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_checksum_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        // The test vector of FIPS 180-4.
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(PUBLISHED.iter().all(|(sum, _)| sum.len() == 64));
    }
}
