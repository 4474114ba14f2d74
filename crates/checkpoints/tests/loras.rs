//! LoRAs that cannot be used: each is an error that says what the file is and what would work.

use latentrace_checkpoints::{Checkpoint, Choice, Lora};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

/// The error of changing the tiny checkpoint by a file; `Ok` is the number of layers that it changes.
fn read(file: &Path) -> Result<usize, String> {
    let choice = Choice { loras: vec![Lora::new(file, 1.0)], ..Choice::default() };
    let checkpoint = Checkpoint::open(&golden("networks/sd1"), &choice).map_err(|error| error.to_string())?;
    let adapted = checkpoint.changes().map_err(|error| error.to_string())?;
    Ok(adapted.unet.len() + adapted.text_encoder.len())
}

/// A file with tensors of zeros.
fn written(folder: &Path, tensors: &[(&str, &[usize])], about: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("a.safetensors");
    let zeros = vec![0u8; 4 * 100_000];
    let view = |shape: &[usize]| {
        TensorView::new(Dtype::F32, shape.to_vec(), &zeros[..4 * shape.iter().product::<usize>()]).unwrap()
    };
    let views: Vec<(&str, TensorView)> = tensors.iter().map(|(name, shape)| (*name, view(shape))).collect();
    let about: HashMap<String, String> = about.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
    serialize_to_file(views, Some(about), &path).unwrap();
    path
}

const LAYER: &str = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

#[test]
fn every_file_that_cannot_be_used_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let named = |ending: &str| format!("{LAYER}.{ending}");
    let (down, up) = (named("lora_A.weight"), named("lora_B.weight"));
    let sdxl = "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight";
    let deep = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_k.lora_down.weight";
    let typo = LAYER.replace("attn1.to_q", "attn1.to_qq") + ".lora_A.weight";
    for (tensors, expected) in [
        (&[(down.as_str(), &[2, 4][..])][..], "has no lora_up (lora_B)"),
        (&[(up.as_str(), &[4, 2])], "has no lora_down (lora_A)"),
        (&[(&named("alpha"), &[])], "has no lora_down (lora_A) and lora_up (lora_B)"),
        (
            &[(&down, &[2, 5]), (&up, &[4, 2])],
            "[2, 5] and [4, 2] do not fit down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q, whose weight is [4, 4]",
        ),
        (&[(&down, &[2, 4]), (&up, &[4, 3])], "[2, 4] and [4, 3] do not fit"),
        (&[(&down, &[0, 4]), (&up, &[4, 0])], "do not fit"),
        (&[(&down, &[2, 4]), (&up, &[4, 2]), (&named("alpha"), &[3])], "alpha: expected one finite number"),
        (&[(&down, &[2, 4]), (&named("lora.down.weight"), &[2, 4])], "is of the same layer"),
        (&[(&down, &[2, 4]), (&up, &[4, 2]), (&named("lora_mid.weight"), &[2, 2, 3, 3])], "of another rank"),
        (&[(&named("hada_w1_a"), &[2, 4])], "LoHa (a Hadamard product) is not supported"),
        (&[(&named("lokr_w1"), &[2, 4])], "LoKr"),
        (&[(&named("dora_scale"), &[2, 4])], "DoRA"),
        (&[(&named("lora_B.bias"), &[4])], "a LoRA with biases"),
        (&[(&named("diff"), &[4])], "a whole difference of weights"),
        (&[(sdxl, &[2, 4])], "the model has no such layer\nhint: this is a LoRA for SDXL, which is not supported"),
        (&[(deep, &[2, 4])], "this is a LoRA for SDXL"),
        (&[("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", &[2, 4])], "a LoRA for Flux"),
        (&[(&typo, &[2, 4])], "hint: the nearest layer is down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
        (&[("model.diffusion_model.out.0.bias", &[2])], "this is a whole checkpoint: name it with --model"),
        (&[("emb_params", &[2, 4])], "this may be a textual inversion: name it with --embedding"),
        (&[("a", &[2]), ("b", &[2]), ("c", &[2])], "the names in a LoRA end with"),
    ] {
        let error = read(&written(folder.path(), tensors, &[])).unwrap_err();
        assert!(error.starts_with(&folder.path().display().to_string()), "{error}");
        assert!(error.contains(expected), "{tensors:?}: {error}");
    }
    let empty = folder.path().join("empty.safetensors");
    std::fs::write(&empty, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    assert!(read(&empty).unwrap_err().ends_with("a file without tensors, not a LoRA"));
    let whole = [(down.as_str(), &[2, 4][..]), (up.as_str(), &[4, 2][..])];
    assert_eq!(read(&written(folder.path(), &whole, &[])).unwrap(), 1);
    let dora = written(folder.path(), &whole, &[("lora_adapter_metadata", r#"{"unet.use_dora": true}"#)]);
    assert!(read(&dora).unwrap_err().contains("unet.use_dora: DoRA is not supported"));
    let broken = written(folder.path(), &whole, &[("lora_adapter_metadata", "{")]);
    assert!(read(&broken).unwrap_err().contains("lora_adapter_metadata: EOF"));
}

#[test]
fn places_that_are_no_lora_are_told_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(read(folder.path()).unwrap_err().contains("a folder without a LoRA\nhint: a LoRA is a .safetensors file"));
    assert!(read(&at("style.safetensors:x")).unwrap_err().contains("no such file\nhint: a LoRA is"));
    std::fs::write(at("a.pt"), "PK\x03\x04").unwrap();
    assert!(read(&at("a.pt")).unwrap_err().contains("never read"));
    std::fs::write(at("b.safetensors"), "version https://git-lfs.github.com/spec/v1").unwrap();
    assert!(read(&at("b.safetensors")).unwrap_err().contains("a pointer of Git LFS"));
    assert_eq!(read(&golden("lora/adapter")).unwrap(), 64, "a folder of PEFT");
}

#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, path) = (std::fs::read(golden("lora/old.safetensors")).unwrap(), folder.path().join("a.safetensors"));
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (mut refused, mut read_all) = (0, 0);
    for index in 0..300 {
        let mut bytes = whole.clone();
        match index % 3 {
            0 => bytes.truncate(whole.len() * index / 300),
            1 => bytes[header * index / 300] ^= 1 << (index % 8),
            _ => bytes[8 + index] = b"0{}\",:[x"[index % 8],
        }
        std::fs::write(&path, bytes).unwrap();
        match read(&path) {
            Ok(_) => read_all += 1,
            Err(error) => {
                assert!(error.starts_with(&path.display().to_string()), "{error}");
                refused += 1;
            }
        }
    }
    // A letter that is changed in a name that nothing depends on leaves a LoRA.
    assert!(refused > 290, "{refused} refused, {read_all} read");
}
