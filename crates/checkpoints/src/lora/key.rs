//! The names of tensors in a LoRA: those that kohya's trainers, PEFT and diffusers write.

/// What of a change a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The matrix that leads to few features.
    Down,
    /// The matrix that leads back.
    Up,
    /// The kernel between the two, of a convolution that is divided into three.
    Mid,
    /// The number that the change is multiplied by, times the rank.
    Alpha,
}

/// The end of a name, after that of the layer, and what it says.
const ENDINGS: [(&str, Piece); 14] = [
    // kohya
    (".lora_down.weight", Piece::Down),
    (".lora_up.weight", Piece::Up),
    (".lora_mid.weight", Piece::Mid),
    (".alpha", Piece::Alpha),
    // PEFT
    (".lora_A.weight", Piece::Down),
    (".lora_B.weight", Piece::Up),
    (".lora_A.default.weight", Piece::Down),
    (".lora_B.default.weight", Piece::Up),
    // diffusers, from the oldest to the newest
    ("_lora.down.weight", Piece::Down),
    ("_lora.up.weight", Piece::Up),
    (".lora_linear_layer.down.weight", Piece::Down),
    (".lora_linear_layer.up.weight", Piece::Up),
    (".lora.down.weight", Piece::Down),
    (".lora.up.weight", Piece::Up),
];

/// The ends of the names of changes of other kinds; what ends with `_` is inside the names.
const OTHERS: [(&str, &str); 10] = [
    (".hada_", "LoHa (a Hadamard product)"),
    (".lokr_", "LoKr (a Kronecker product)"),
    (".oft_", "OFT (orthogonal finetuning)"),
    (".boft_", "BOFT (orthogonal finetuning)"),
    (".dora_scale", "DoRA (a LoRA with the magnitudes of its weights)"),
    (".lora_magnitude_", "DoRA (a LoRA with the magnitudes of its weights)"),
    (".diff_b", "a whole difference of biases"),
    (".diff", "a whole difference of weights"),
    (".lora_B.bias", "a LoRA with biases"),
    (".lora_embedding_", "a LoRA of the table of tokens"),
];

/// The name of the layer and what the tensor is; or the kind of another change; or nothing, for a name that no LoRA has.
pub(super) enum Key<'a> {
    Of { layer: &'a str, piece: Piece },
    Other(&'static str),
    Unknown,
}

/// Reads the name of a tensor.
pub(super) fn read(stored: &str) -> Key<'_> {
    let known = ENDINGS.iter().find_map(|(ending, piece)| Some((stored.strip_suffix(ending)?, *piece)));
    if let Some((layer, piece)) = known {
        return Key::Of { layer, piece };
    }
    let is_of = |part: &str| stored.ends_with(part) || (part.ends_with('_') && stored.contains(part));
    let other = OTHERS.iter().find(|(part, _)| is_of(part));
    other.map_or(Key::Unknown, |(_, kind)| Key::Other(kind))
}
