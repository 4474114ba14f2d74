//! LoRAs that cannot be used: each is an error that says what the file is and what would work.

use latentrace_checkpoints::{Adapted, Checkpoint, Choice, Lora};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

/// The changes of a tiny checkpoint by a file.
fn changes(model: &str, file: &Path) -> Result<Adapted, String> {
    let choice = Choice { loras: vec![Lora::new(file, 1.0)], ..Choice::default() };
    let place = golden("networks").join(model);
    let checkpoint = Checkpoint::open(&place, &choice).map_err(|error| error.to_string())?;
    checkpoint.changes().map_err(|error| error.to_string())
}

/// The error of changing the tiny checkpoint by a file; `Ok` is the number of layers that it changes.
fn read(file: &Path) -> Result<usize, String> {
    let adapted = changes("sd1", file)?;
    Ok(adapted.unet.len() + adapted.texts.values().map(BTreeMap::len).sum::<usize>())
}

/// Every layer that a file changes, after the name of its part.
fn changed(model: &str, file: &Path) -> Vec<String> {
    let Adapted { texts, unet, .. } = changes(model, file).unwrap();
    let texts = texts.iter().flat_map(|(part, layers)| layers.keys().map(move |layer| format!("{part}: {layer}")));
    texts.chain(unet.keys().map(|layer| format!("unet: {layer}"))).collect()
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
        (
            &[(sdxl, &[2, 4])],
            "the model has no such layer\nhint: this is a LoRA for SDXL, but the model is one of Stable Diffusion 1.x or 2.x",
        ),
        (&[(deep, &[2, 4])], "this is a LoRA for SDXL"),
        (&[("text_encoder_2.text_projection.lora_A.weight", &[2, 4])], "this is a LoRA for SDXL"),
        (&[("lora_unet_label_emb_0_0.lora_down.weight", &[2, 4])], "this is a LoRA for SDXL"),
        (
            &[(&named("lora_A.weight"), &[2, 2048]), (&named("lora_B.weight"), &[4, 2])],
            "[2, 2048] and [4, 2] do not fit",
        ),
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

/// Names of layers of SDXL as trainers write them, the shapes of a change of rank 1, and the layers that they are.
const NAMES_OF_SDXL: [(&str, [usize; 2], &str); 20] = [
    ("lora_te1_text_model_encoder_layers_0_mlp_fc1", [24, 32], "text_encoder: encoder.layers.0.mlp.fc1"),
    ("lora_te_text_model_encoder_layers_0_mlp_fc1", [24, 32], "text_encoder: encoder.layers.0.mlp.fc1"),
    ("lora_te2_text_model_encoder_layers_2_mlp_fc1", [40, 48], "text_encoder_2: encoder.layers.2.mlp.fc1"),
    ("lora_te2_text_projection", [40, 20], "text_encoder_2: text_projection"),
    (
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj",
        [24, 24],
        "text_encoder: encoder.layers.1.self_attn.q_proj",
    ),
    (
        "text_encoder_2.text_model.encoder.layers.1.self_attn.q_proj",
        [40, 40],
        "text_encoder_2: encoder.layers.1.self_attn.q_proj",
    ),
    ("text_encoder_2.encoder.layers.1.self_attn.q_proj", [40, 40], "text_encoder_2: encoder.layers.1.self_attn.q_proj"),
    (
        "text_encoder_2.text_model.encoder.layers.1.self_attn.to_q",
        [40, 40],
        "text_encoder_2: encoder.layers.1.self_attn.q_proj",
    ),
    ("text_encoder_2.text_projection", [40, 20], "text_encoder_2: text_projection"),
    ("text_encoder_2_text_model_encoder_layers_2_mlp_fc1", [40, 48], "text_encoder_2: encoder.layers.2.mlp.fc1"),
    ("text_encoder_text_model_encoder_layers_1_mlp_fc1", [24, 32], "text_encoder: encoder.layers.1.mlp.fc1"),
    ("lora_unet_label_emb_0_0", [68, 32], "unet: add_embedding.linear_1"),
    ("lora_unet_label_emb_0_2", [32, 32], "unet: add_embedding.linear_2"),
    ("lora_unet_time_embed_0", [8, 32], "unet: time_embedding.linear_1"),
    ("lora_unet_add_embedding_linear_1", [68, 32], "unet: add_embedding.linear_1"),
    (
        "lora_unet_input_blocks_8_1_transformer_blocks_2_attn1_to_q",
        [16, 16],
        "unet: down_blocks.2.attentions.1.transformer_blocks.2.attn1.to_q",
    ),
    (
        "lora_unet_output_blocks_0_1_transformer_blocks_2_attn2_to_k",
        [64, 16],
        "unet: up_blocks.0.attentions.0.transformer_blocks.2.attn2.to_k",
    ),
    (
        "lora_unet_middle_block_1_transformer_blocks_2_attn1_to_out_0",
        [16, 16],
        "unet: mid_block.attentions.0.transformer_blocks.2.attn1.to_out.0",
    ),
    (
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_v",
        [12, 12],
        "unet: down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_v",
    ),
    (
        "unet.mid_block.attentions.0.transformer_blocks.2.ff.net.2",
        [64, 16],
        "unet: mid_block.attentions.0.transformer_blocks.2.ff.net.2",
    ),
];

/// A file with a change of rank 1 of one layer.
fn of_one_layer(folder: &Path, name: &str, [inputs, outputs]: [usize; 2]) -> PathBuf {
    let [down, up] = ["lora_down", "lora_up"].map(|piece| format!("{name}.{piece}.weight"));
    written(folder, &[(&down, &[1, inputs]), (&up, &[outputs, 1])], &[])
}

#[test]
fn every_name_of_a_layer_of_sdxl_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape, layer) in NAMES_OF_SDXL {
        let found = changed("sdxl", &of_one_layer(folder.path(), name, shape));
        assert_eq!(found.join(", ").replace("text_model.", ""), layer, "{name}");
    }
    // The refiner has only the second text encoder, which is the first of those that it has.
    for name in ["lora_te_text_model_", "lora_te2_text_model_", "text_encoder_2.text_model.", "text_model."] {
        let name = format!("{name}encoder.layers.2.mlp.fc1");
        let found = changed("sdxl-refiner", &of_one_layer(folder.path(), &name, [40, 48]));
        assert_eq!(found.join(", ").replace("text_model.", ""), "text_encoder_2: encoder.layers.2.mlp.fc1", "{name}");
    }
}

#[test]
fn a_lora_for_another_model_is_told_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let attention = |blocks: &str| format!("lora_unet_{blocks}_transformer_blocks_0_attn1_to_q");
    for (model, name, shape, expected) in [
        (
            "sdxl",
            &*attention("down_blocks_0_attentions_0"),
            [8, 8],
            "the model has no such layer (and 1 more tensors)\nhint: this is a LoRA for Stable Diffusion 1.x or 2.x, but the model is SDXL",
        ),
        (
            "sdxl",
            &attention("output_blocks_11_1"),
            [8, 8],
            "a LoRA for Stable Diffusion 1.x or 2.x, but the model is SDXL",
        ),
        ("sdxl-refiner", LAYER, [8, 8], "a LoRA for Stable Diffusion 1.x or 2.x, but the model is the refiner of SDXL"),
        (
            "sdxl",
            &attention("up_blocks_2_attentions_0"),
            [8, 8],
            "a LoRA for the refiner of SDXL, but the model is SDXL itself",
        ),
        (
            "sdxl-refiner",
            "lora_te1_text_model_encoder_layers_0_mlp_fc1",
            [24, 32],
            "a LoRA for SDXL itself, but the model is its refiner",
        ),
        (
            "sdxl",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            [768, 12],
            "whose weight is [12, 64]\nhint: 768 text features are those of Stable Diffusion 1.x",
        ),
        (
            "sdxl",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            [1280, 12],
            "hint: 1280 text features are those of SDXL's refiner",
        ),
        (
            "sd1",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
            [2048, 8],
            "hint: 2048 text features are those of SDXL",
        ),
        (
            "sdxl",
            "text_model.encoder.layers.0.mlp.fc1",
            [24, 32],
            "hint: it is of a text encoder, but does not say of which: text_encoder. or text_encoder_2. before it does",
        ),
        (
            "sdxl",
            "lora_te2_text_model_encoder_layers_0_mlp_fc11",
            [40, 48],
            "hint: the nearest layer is text_model.encoder.layers.0.mlp.fc1",
        ),
        ("sdxl", "lora_te3_x", [2, 2], "this is a LoRA for Stable Diffusion 3, which is not supported"),
    ] {
        let file = of_one_layer(folder.path(), name, shape);
        let error = changes(model, &file).err().unwrap_or_else(|| panic!("{model}, {name}: an error"));
        assert!(
            error.starts_with(&file.display().to_string()) && error.ends_with(expected),
            "{model}, {name}: {error}"
        );
    }
    let names = ["lora_te_", "lora_te1_"].map(|prefix| format!("{prefix}text_model_encoder_layers_0_mlp_fc1.alpha"));
    let twice = written(folder.path(), &names.each_ref().map(|name| (name.as_str(), &[][..])), &[]);
    assert!(changes("sdxl", &twice).err().unwrap().contains("is of the same layer"));
}

#[test]
fn a_lora_of_sdxl_says_what_it_changes_of_each_network() {
    let folder = tempfile::tempdir().unwrap();
    let note = |file: &Path| changes("sdxl", file).unwrap().notes.join("\n");
    let kohya = note(&golden("changes/kohya.safetensors"));
    assert!(
        kohya.ends_with("a LoRA of rank 1 changes 206 layers of the UNet, 12 of text_encoder and 19 of text_encoder_2, at the scale 1"),
        "{kohya}"
    );
    let second = of_one_layer(folder.path(), "lora_te2_text_projection", [40, 20]);
    assert!(note(&second).ends_with("a LoRA of rank 1 changes 1 layer of text_encoder_2, at the scale 1"));
    let of_text = |file: &Path| changes("sdxl", file).unwrap().of_text;
    assert_eq!(of_text(&second), [true], "of the second alone");
    assert_eq!(of_text(&of_one_layer(folder.path(), "lora_unet_label_emb_0_2", [32, 32])), [false]);
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
