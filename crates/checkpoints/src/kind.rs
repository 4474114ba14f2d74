//! Classes of pipelines and networks, and the families of models that they belong to.

/// Classes of pipelines that are opened: those of one family differ in what Latentrace does itself. What the UNet takes says which
/// family a checkpoint is of.
pub(crate) const PIPELINES: &[&str] = &[
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInpaintPipelineLegacy",
    "LatentDiffusionPipeline",
    "CycleDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
];

/// Beginnings of class names, and what models of these classes are; a longer beginning comes first.
const FAMILIES: &[(&str, &str)] = &[
    ("StableDiffusionXL", "another pipeline of Stable Diffusion XL"),
    ("StableDiffusionXLControlNet", "a pipeline with a ControlNet"),
    ("StableDiffusionXLAdapter", "a pipeline with a T2I adapter"),
    ("StableDiffusionXLInstructPix2Pix", "an instruct-pix2pix model, which edits a picture by instruction,"),
    ("StableDiffusion3", "a Stable Diffusion 3 model, a transformer,"),
    ("StableDiffusionDepth2Img", "a depth-to-image model"),
    ("StableDiffusionUpscale", "an upscaler"),
    ("StableDiffusionLatentUpscale", "a latent upscaler"),
    ("StableDiffusionInstructPix2Pix", "an instruct-pix2pix model, which edits a picture by instruction,"),
    ("StableDiffusionImageVariation", "a model that is conditioned on a picture instead of text"),
    ("StableDiffusionControlNet", "a pipeline with a ControlNet"),
    ("StableDiffusionAdapter", "a pipeline with a T2I adapter"),
    ("StableDiffusionGLIGEN", "a GLIGEN model, which is conditioned on boxes,"),
    ("StableDiffusionPix2PixZero", "pix2pix-zero"),
    ("StableUnCLIP", "a Stable unCLIP model, which is conditioned on image embeddings,"),
    ("StableCascade", "a Stable Cascade model"),
    ("Wuerstchen", "a Wuerstchen model"),
    ("UnCLIP", "an unCLIP model"),
    ("Flux", "a FLUX model, a transformer,"),
    ("Kandinsky", "a Kandinsky model"),
    ("PixArt", "a PixArt model, a transformer,"),
    ("Sana", "a Sana model, a transformer,"),
    ("Lumina", "a Lumina model, a transformer,"),
    ("HunyuanDiT", "a Hunyuan-DiT model, a transformer,"),
    ("HunyuanVideo", "a video model"),
    ("AuraFlow", "an AuraFlow model, a transformer,"),
    ("QwenImage", "a Qwen-Image model, a transformer,"),
    ("ZImage", "a Z-Image model, a transformer,"),
    ("Chroma", "a Chroma model, a transformer,"),
    ("Kolors", "a Kolors model"),
    ("Marigold", "a Marigold model, which estimates depth or normals,"),
    ("Zero1to3", "a Zero123 model, which turns an object,"),
    ("Zero123", "a Zero123 model, which turns an object,"),
    ("AltDiffusion", "an AltDiffusion model, with another text encoder,"),
    ("PaintByExample", "a paint-by-example model"),
    ("VersatileDiffusion", "a Versatile Diffusion model"),
    ("LatentConsistency", "a latent consistency model, whose UNet takes the guidance as an input,"),
    ("LDMSuperResolution", "an upscaler"),
    ("LDMTextToImage", "a latent diffusion model with another text encoder"),
    ("SemanticStableDiffusion", "a semantic guidance pipeline"),
    ("AnimateDiff", "a video model"),
    ("TextToVideo", "a video model"),
    ("StableVideoDiffusion", "a video model"),
    ("I2VGenXL", "a video model"),
    ("CogVideoX", "a video model"),
    ("Wan", "a video model"),
    ("LTX", "a video model"),
    ("Mochi", "a video model"),
    ("Allegro", "a video model"),
    ("AudioLDM", "an audio model"),
    ("MusicLDM", "an audio model"),
    ("StableAudio", "an audio model"),
    ("IF", "a DeepFloyd IF model, which works on pixels,"),
    ("DDPM", "an unconditional model of pixels"),
    ("DDIM", "an unconditional model of pixels"),
    ("ScoreSdeVe", "an unconditional model of pixels"),
    ("DiT", "a diffusion transformer for ImageNet classes"),
    ("Consistency", "a consistency model of pixels"),
    // Networks by themselves, or as a part of a folder.
    ("UNet2DConditionModel", "a conditional UNet"),
    ("UNet2DModel", "an unconditional UNet"),
    ("UNetMotionModel", "the UNet of a video model"),
    ("UNet3DConditionModel", "the UNet of a video model"),
    ("UNetSpatioTemporal", "the UNet of a video model"),
    ("AutoencoderKL", "a VAE"),
    ("AutoencoderTiny", "a tiny autoencoder (TAESD)"),
    ("AsymmetricAutoencoderKL", "an asymmetric VAE"),
    ("ConsistencyDecoderVAE", "a VAE with a consistency decoder"),
    ("VQModel", "a VQ autoencoder"),
    ("ControlNet", "a ControlNet"),
    ("T2IAdapter", "a T2I adapter"),
    ("MultiAdapter", "a T2I adapter"),
    ("MotionAdapter", "a motion adapter"),
    ("CLIPTextModelWithProjection", "a text encoder with a projection, the second one of SDXL,"),
    ("CLIPTextModel", "a CLIP text encoder"),
    ("CLIPVisionModel", "a CLIP image encoder"),
    ("CLIPModel", "a whole CLIP model, for text and pictures"),
    ("T5EncoderModel", "a T5 text encoder"),
    ("RobertaSeries", "the text encoder of AltDiffusion"),
    ("SD3Transformer", "a Stable Diffusion 3 transformer"),
    ("CLIPTokenizer", "a CLIP tokenizer"),
];

/// What models of a class are: the entry with the longest beginning of the class's name.
pub(crate) fn family(class: &str) -> Option<&'static str> {
    let of_class = FAMILIES.iter().filter(|(beginning, _)| class.starts_with(beginning));
    of_class.max_by_key(|(beginning, _)| beginning.len()).map(|(_, family)| *family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_decides() {
        assert!(family("StableDiffusionXLPAGPipeline").unwrap().contains("XL"));
        assert!(family("StableDiffusionXLControlNetInpaintPipeline").unwrap().contains("ControlNet"));
        assert!(family("StableDiffusionXLAdapterPipeline").unwrap().contains("adapter"));
        assert!(family("StableDiffusionXLInstructPix2PixPipeline").unwrap().contains("instruct"));
        assert!(family("AutoencoderKL").unwrap().contains("VAE"));
        assert!(family("FluxControlNetPipeline").unwrap().contains("FLUX"));
        assert_eq!(family("StableDiffusionPipeline"), None);
        assert_eq!(family("MyOwn"), None);
    }
}
