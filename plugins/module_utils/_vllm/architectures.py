# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases of vLLM know an architecture, by the name that config.json gives it. Pure.

Written by tools/vllm_architectures.py on 2026-11-27 from the registries in the sources of the releases below. A line is
a name, the releases in the ranges of C(_vllm/flags.py), and what it does: g generates, p embeds, classifies or scores,
gp both. The oldest release that was read may not be the first that knows it.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _read(text: str) -> dict[str, tuple[str, str]]:
    """One entry a line, as one string, which compiles ten times faster than a dict."""
    rows = map(str.split, text.splitlines())
    return {name: (ranges, kinds) for name, ranges, kinds in rows}


READ = _words("""\
0.8.5 0.9.0 0.9.1 0.9.2 0.10.0 0.10.1 0.10.1.1 0.10.2 0.11.0 0.11.1 0.11.2 0.12.0 0.13.0 0.14.0 0.14.1 0.16.0 0.17.0
0.17.1 0.18.0 0.18.1 0.19.0 0.19.1 0.20.0 0.20.1 0.20.2 0.21.0 0.22.0 0.22.1 0.23.0 0.24.0 0.25.0 0.25.1 0.26.0 0.27.0
0.27.1 0.28.0 0.29.0 0.30.0 0.31.0 0.32.0 0.33.0
""")

# Values of C(model_type) for which vLLM 0.26.0 and Transformers 5.0.0 have a class of their own.
TYPES = _words("""\
RefinedWeb RefinedWebModel afmoe aimv2 aimv2_vision_model albert align altclip apertus arcee arctic aria aria_text
audio-spectrogram-transformer audioflamingo3 audioflamingo3_encoder autoformer axk1 aya_vision bagel bamba bark bart
beit bert bert-generation big_bird bigbird_pegasus biogpt bit bitnet blenderbot blenderbot-small blip blip-2
blip_2_qformer bloom blt bridgetower bros camembert canine chameleon chatglm chinese_clip chinese_clip_vision_model
clap clip clip_text_model clip_vision_model clipseg clvp code_llama codegen cohere cohere2 cohere2_vision colpali
colqwen2 colqwen3 conditional_detr convbert convnext convnextv2 cosmos3_edge cosmos3_omni cpmant csm ctrl cvt cwm
d_fine dab-detr dac data2vec-audio data2vec-text data2vec-vision dbrx deberta deberta-v2 decision_transformer
deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 deepseek_vl deepseek_vl_hybrid deepseek_vl_v2 deformable_detr deit
depth_anything depth_pro detr dia diffllama diffusion_gemma dinat dinov2 dinov2_with_registers dinov3_convnext
dinov3_vit distilbert doge donut-swin dots1 dpr dpt eagle edgetam edgetam_video edgetam_vision_model efficientloftr
efficientnet electra emu3 encodec encoder-decoder eomt ernie ernie4_5 ernie4_5_moe ernie4_5_vl_moe esm evolla exaone4
falcon falcon_h1 falcon_mamba fast_vlm fastspeech2_conformer fastspeech2_conformer_with_hifigan fireredlid flaubert
flava flex_olmo florence2 fnet focalnet fsmt funaudiochat funnel fuyu gemma gemma2 gemma3 gemma3_text gemma3n
gemma3n_audio gemma3n_text gemma3n_vision git glm glm4 glm46v glm4_moe glm4_moe_lite glm4v glm4v_moe glm4v_moe_text
glm4v_moe_vision glm4v_text glm4v_vision glm_image glm_image_text glm_image_vision glm_image_vqmodel glmasr
glmasr_encoder glpn got_ocr2 gpt-sw3 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese gpt_oss gptj granite
granite4_vision granite_speech granitemoe granitemoehybrid granitemoeshared granitevision grounding-dino groupvit
helium hgnet_v2 hiera hubert hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl hy_v3 hyperclovax hyperclovax_vlm ibert
idefics idefics2 idefics3 idefics3_vision ijepa imagegpt informer inkling_mm_model inkling_model instructblip
instructblipvideo internvl internvl_vision isaac jais2 jamba janus jetmoe kimi_k2 kimi_k25 kimi_linear kimi_vl
kosmos-2 kyutai_speech_to_text laguna lasr_ctc lasr_encoder layoutlm layoutlmv2 layoutlmv3 layoutxlm led levit lfm2
lfm2_moe lfm2_vl lightglue lighton_ocr lilt llama llama4 llama4_text llava llava_next llava_next_video llava_onevision
longcat_flash longformer longt5 luke lw_detr lw_detr_vit lxmert m2m_100 mamba mamba2 marian markuplm mask2former
maskformer maskformer-swin mbart medusa megatron-bert mellum metaclip_2 mgp-str midashenglm mimi minimax minimax_m2
minimax_m3_mtp minimax_m3_vl ministral ministral3 mistral mistral3 mixtral mlcd mllama mlp_speculator
mm-grounding-dino mobilebert mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 modernbert modernbert-decoder modernvbert
moondream3 moonshine moshi moss_transcribe_diarize mpnet mpt mra mt5 musicgen musicgen_melody mvp nanochat nemotron
nllb-moe nougat nystromformer olmo olmo2 olmo3 olmo_hybrid olmoe omdet-turbo oneformer openai-gpt openvla ops_colqwen3
opt ovis ovis2 owlv2 owlvit paddleocr_vl paligemma parakeet_ctc parakeet_encoder patchtsmixer patchtst pe_audio
pe_audio_encoder pe_audio_video pe_audio_video_encoder pe_video pe_video_encoder pegasus pegasus_x perceiver
perception_lm persimmon phi phi3 phi4_multimodal phimoe pix2struct pixio pixtral plbart poolformer pop2piano
prompt_depth_anything prophetnet pvt pvt_v2 qianfan_ocr qwen2 qwen2_5_omni qwen2_5_vl qwen2_5_vl_text qwen2_audio
qwen2_audio_encoder qwen2_moe qwen2_vl qwen2_vl_text qwen3 qwen3_5 qwen3_5_moe qwen3_asr qwen3_moe qwen3_next
qwen3_omni_moe qwen3_vl qwen3_vl_moe qwen3_vl_moe_text qwen3_vl_nemotron_embed qwen3_vl_text rag recurrent_gemma
reformer regnet rembert resnet roberta roberta-prelayernorm roc_bert roformer rt_detr rt_detr_resnet rt_detr_v2 rwkv
sam sam2 sam2_hiera_det_model sam2_video sam2_vision_model sam3 sam3_tracker sam3_tracker_video sam3_video
sam3_vision_model sam3_vit_model sam_hq sam_hq_vision_model sam_vision_model seamless_m4t seamless_m4t_v2 seed_oss
segformer seggpt sew sew-d shieldgemma2 siglip siglip2 siglip2_vision_model siglip_vision_model smollm3 smolvlm
smolvlm_vision solar_open speculators speech-encoder-decoder speech_to_text speecht5 splinter squeezebert stablelm
starcoder2 step3_text step3_vl step3p5 superglue superpoint swiftformer swin swin2sr swinv2 switch_transformers t5
t5gemma t5gemma2 table-transformer tapas textnet time_series_transformer timesfm timesformer timm_backbone
timm_wrapper trocr tvp udop ultravox umm umt5 unispeech unispeech-sat univnet upernet vaultgemma video_llama_3
video_llama_3_vision video_llava videomae vilt vipllava vision-encoder-decoder vision-text-dual-encoder visual_bert
vit vit_mae vit_msn vitdet vitmatte vitpose vitpose_backbone vits vivit vjepa2 voxtral voxtral_encoder wav2vec2
wav2vec2-bert wav2vec2-conformer wavlm whisper xclip xcodec xglm xlm xlm-roberta xlm-roberta-xl xlnet xlstm xmod yolos
yoso zamba zamba2 zoedepth
""")

ARCHITECTURES = _read("""\
AXK1ForCausalLM 0.17.0.. g
AfmoeForCausalLM 0.11.1.. g
AliceAIForCausalLM 0.33.0.. g
Alpamayo2Super 0.33.0.. g
ApertusForCausalLM 0.10.2.. g
AquilaForCausalLM 0.8.5..0.24.0 g
AquilaModel 0.8.5..0.24.0 g
ArceeForCausalLM 0.10.0..0.31.0 g
ArcticForCausalLM 0.8.5..0.28.0 g
AriaForConditionalGeneration 0.8.5.. g
AudioFlamingo3ForConditionalGeneration 0.13.0.. g
AyaVisionForConditionalGeneration 0.8.5..0.24.0 g
BagelForConditionalGeneration 0.13.0.. g
BaiChuanForCausalLM 0.8.5..0.24.0 g
BaichuanForCausalLM 0.8.5..0.24.0 g
BailingMoeForCausalLM 0.10.0.. g
BailingMoeV2ForCausalLM 0.11.0.. g
BailingMoeV2_5ForCausalLM 0.17.0.. g
BailingMoeV3ForCausalLM 0.28.0.. g
BailingMoeV3VLForConditionalGeneration 0.30.0.. g
BambaForCausalLM 0.8.5..0.23.0 g
BartForConditionalGeneration 0.8.5..0.10.2 g
BartModel 0.8.5..0.10.2 g
BeamForCausalLM 0.33.0.. g
BeeForConditionalGeneration 0.11.1.. g
BertForMaskedLM 0.26.0.. p
BertForSequenceClassification 0.8.5.. p
BertForTokenClassification 0.11.0.. p
BertModel 0.8.5.. p
BertSpladeSparseEmbeddingModel 0.11.1.. p
BgeM3EmbeddingModel 0.16.0.. p
Blip2ForConditionalGeneration 0.8.5.. g
BloomForCausalLM 0.8.5.. g
CLIPModel 0.11.1.. p
ChameleonForConditionalGeneration 0.8.5..0.28.0 g
ChatGLMForConditionalGeneration 0.8.5.. g
ChatGLMModel 0.8.5.. g
Cheers 0.20.0..0.28.0 g
CheersForConditionalGeneration 0.20.0..0.28.0 g
ClefFlashForJointSchema 0.33.0.. p
ClefOmniForJointSchema 0.32.0.. p
Cohere2ForCausalLM 0.8.5.. g
Cohere2MoeForCausalLM 0.21.0.. g
Cohere2VisionForConditionalGeneration 0.10.1.. g
CohereAsrForConditionalGeneration 0.19.0.. g
CohereCompassForConditionalGeneration 0.30.0.. g
CohereForCausalLM 0.8.5.. g
ColBERTJinaRobertaModel 0.17.0.. p
ColBERTLfm2Model 0.19.0.. p
ColBERTModernBertModel 0.17.0.. p
ColModernVBertForRetrieval 0.17.0.. p
ColPaliForRetrieval 0.18.0.. p
ColQwen3 0.17.0.. p
ColQwen3_5 0.19.0.. p
ColUltraVBertForRetrieval 0.33.0.. p
Cosmos3EdgeForConditionalGeneration 0.26.0.. g
Cosmos3ForConditionalGeneration 0.23.0.. g
CwmForCausalLM 0.11.0..0.31.0 g
D3ForSequenceClassification 0.33.0.. p
DbrxForCausalLM 0.8.5.. g
DeciLMForCausalLM 0.8.5.. gp
DeepseekForCausalLM 0.8.5.. g
DeepseekOCR2ForCausalLM 0.16.0.. g
DeepseekOCRForCausalLM 0.11.1.. g
DeepseekV2ForCausalLM 0.8.5.. g
DeepseekV32ForCausalLM 0.11.0.. g
DeepseekV3BidirectionalModel 0.29.0.. p
DeepseekV3ForCausalLM 0.8.5.. g
DeepseekV41ForCausalLM 0.30.0.. g
DeepseekV4ForCausalLM 0.20.0.. g
DeepseekV4ForConditionalGeneration 0.30.0.. g
DeepseekVLV2ForCausalLM 0.8.5.. g
DiffusionGemmaForBlockDiffusion 0.24.0.. g
DomynEdgeForCausalLM 0.33.0.. g
DonutForConditionalGeneration 0.10.2..0.10.2 g
DoryForCausalLM 0.33.0.. g
Dots1ForCausalLM 0.9.2..0.23.0 g
Dots3NoteForCausalLM 0.28.0.. g
DotsOCRForCausalLM 0.11.0.. g
Eagle2_5_VLForConditionalGeneration 0.16.0.. g
EmbeddingGemma2Model 0.32.0.. p
Ernie4_5ForCausalLM 0.10.1.. g
Ernie4_5_ForCausalLM 0.9.2..0.10.0 g
Ernie4_5_MoeForCausalLM 0.9.2.. g
Ernie4_5_VLMoeForConditionalGeneration 0.10.2.. g
ErnieForSequenceClassification 0.18.0..0.23.0 p
ErnieForTokenClassification 0.18.0..0.23.0 p
ErnieModel 0.18.0..0.23.0 p
Exaone4ForCausalLM 0.10.0.. g
Exaone4_5_ForConditionalGeneration 0.20.0.. g
ExaoneForCausalLM 0.8.5.. g
ExaoneMoEForCausalLM 0.14.0..0.26.0,0.32.0.. g
ExaoneMoeForCausalLM 0.27.0.. g
Fairseq2LlamaForCausalLM 0.8.5..0.28.0 g
FalconForCausalLM 0.8.5.. g
FalconH1ForCausalLM 0.9.0.. g
FalconMambaForCausalLM 0.8.5.. g
FireRedASR2ForConditionalGeneration 0.17.0.. g
FireRedLIDForConditionalGeneration 0.20.0..0.28.0 g
FlexOlmoForCausalLM 0.11.1..0.28.0 g
FlintForCausalLM 0.33.0.. g
Florence2ForConditionalGeneration 0.8.5..0.10.2 g
FunASRForConditionalGeneration 0.17.0.. g
FunAudioChatForConditionalGeneration 0.16.0.. g
FuyuForCausalLM 0.8.5..0.25.1 g
GLM4VForCausalLM 0.8.5.. g
GPT2ForSequenceClassification 0.9.2.. p
GPT2LMHeadModel 0.8.5.. g
GPTBigCodeForCausalLM 0.8.5..0.24.0 g
GPTJForCausalLM 0.8.5.. g
GPTNeoXForCausalLM 0.8.5..0.31.0 g
Gemma2ForCausalLM 0.8.5.. g
Gemma2Model 0.8.5.. p
Gemma3ForCausalLM 0.8.5.. g
Gemma3ForConditionalGeneration 0.8.5.. g
Gemma3TextModel 0.10.2.. p
Gemma3nForCausalLM 0.10.1.. g
Gemma3nForConditionalGeneration 0.9.2.. g
Gemma4ForCausalLM 0.19.0.. g
Gemma4ForConditionalGeneration 0.19.0.. g
Gemma4UnifiedForConditionalGeneration 0.23.0.. g
GemmaForCausalLM 0.8.5.. g
Glm4ForCausalLM 0.8.5.. g
Glm4MoeForCausalLM 0.10.0.. g
Glm4MoeLiteForCausalLM 0.16.0.. g
Glm4vForConditionalGeneration 0.9.2.. g
Glm4vMoeForConditionalGeneration 0.10.1.. g
Glm5NextForCausalLM 0.30.0.. g
Glm5NextForConditionalGeneration 0.30.0.. g
GlmAsrForConditionalGeneration 0.14.0.. g
GlmForCausalLM 0.8.5..0.31.0 gp
GlmMoeDsaForCausalLM 0.16.0.. g
GlmOcrForConditionalGeneration 0.16.0.. g
GptOssForCausalLM 0.10.1.. g
Granite4VisionForConditionalGeneration 0.20.0.. g
GraniteForCausalLM 0.8.5.. g
GraniteMoeForCausalLM 0.8.5.. g
GraniteMoeHybridForCausalLM 0.9.0.. g
GraniteMoeSWAForCausalLM 0.29.0.. g
GraniteMoeSharedForCausalLM 0.8.5.. g
GraniteSWAForCausalLM 0.29.0.. g
GraniteSpeechForConditionalGeneration 0.8.5.. g
GraniteSpeechPlusForConditionalGeneration 0.23.0.. g
GritLM 0.8.5..0.28.0 gp
Grok1ForCausalLM 0.14.0..0.24.0 g
Grok1ModelForCausalLM 0.8.5..0.24.0 g
GteModel 0.8.5.. p
GteNewForSequenceClassification 0.10.2.. p
GteNewModel 0.9.0.. p
H2OVLChatModel 0.8.5.. g
HCXVisionForCausalLM 0.10.1..0.28.0 g
HCXVisionV2ForCausalLM 0.18.0.. g
HF_ColBERT 0.16.0.. p
HYV3ForCausalLM 0.20.0.. g
HYV4ForCausalLM 0.29.0.. g
HfMoondream 0.21.0.. g
HrmTextForCausalLM 0.24.0.. g
HunYuanDenseV1ForCausalLM 0.10.0..0.28.0 g
HunYuanMoEV1ForCausalLM 0.9.2..0.28.0 g
HunYuanVLForConditionalGeneration 0.12.0..0.28.0 g
HyperCLOVAXForCausalLM 0.18.0.. g
IQuestCoderForCausalLM 0.14.0.. g
IQuestLoopCoderForCausalLM 0.14.0.. g
Idefics3ForConditionalGeneration 0.8.5.. g
InklingForCausalLM 0.26.0.. g
InklingForConditionalGeneration 0.26.0.. g
InternLM2ForCausalLM 0.8.5.. g
InternLM2ForRewardModel 0.8.5.. p
InternLM2VEForCausalLM 0.8.5..0.23.0 g
InternLM3ForCausalLM 0.8.5.. g
InternLMForCausalLM 0.8.5..0.23.0 g
InternS1ForConditionalGeneration 0.10.1.. g
InternS1ProForConditionalGeneration 0.16.0.. g
InternS2MobiusForConditionalGeneration 0.28.0.. g
InternS2PreviewForConditionalGeneration 0.22.0.. g
InternVLChatModel 0.8.5.. g
InternVLForConditionalGeneration 0.10.2.. g
IsaacForConditionalGeneration 0.14.0.. g
JAISLMHeadModel 0.8.5..0.22.1 g
Jais2ForCausalLM 0.13.0..0.31.0 g
JambaForCausalLM 0.8.5.. g
JambaForSequenceClassification 0.8.5.. p
JinaEmbeddingsV5Model 0.20.0.. p
JinaForRanking 0.20.0.. p
JinaVLForRanking 0.10.0.. p
K2HorizonForCausalLM 0.30.0.. g
KananaVForConditionalGeneration 0.14.0.. g
KeyeForConditionalGeneration 0.9.2.. g
KeyeVL1_5ForConditionalGeneration 0.10.2.. g
KimiK25ForConditionalGeneration 0.16.0.. g
KimiK3ForConditionalGeneration 0.27.0.. g
KimiLinearForCausalLM 0.11.1.. g
KimiVLForConditionalGeneration 0.8.5.. g
LLaMAForCausalLM 0.8.5.. g
LagunaForCausalLM 0.21.0.. g
Lfm2BidirectionalModel 0.33.0.. p
Lfm2ForCausalLM 0.10.2.. g
Lfm2MoeForCausalLM 0.11.1.. g
Lfm2VlForConditionalGeneration 0.14.0.. g
LightOnOCRForConditionalGeneration 0.11.1.. g
Llama4ForCausalLM 0.10.1.. g
Llama4ForConditionalGeneration 0.8.5.. g
LlamaBidirectionalForSequenceClassification 0.14.0.. p
LlamaBidirectionalModel 0.14.0.. p
LlamaForCausalLM 0.8.5.. g
LlamaModel 0.8.5.. p
LlamaNemotronVLForSequenceClassification 0.17.0.. p
LlamaNemotronVLModel 0.17.0.. p
Llama_Nemotron_Nano_VL 0.10.0.. g
LlavaForConditionalGeneration 0.8.5.. g
LlavaNextForConditionalGeneration 0.8.5.. gp
LlavaNextVideoForConditionalGeneration 0.8.5.. g
LlavaOnevision2ForConditionalGeneration 0.25.0.. g
LlavaOnevisionForConditionalGeneration 0.8.5.. g
LongcatFlashForCausalLM 0.11.0.. g
LongcatFlashNgramForCausalLM 0.26.0.. g
MBartForConditionalGeneration 0.10.1..0.10.2 g
MPTForCausalLM 0.8.5..0.28.0 g
Mamba2ForCausalLM 0.8.5.. g
MambaForCausalLM 0.8.5.. g
MantisForConditionalGeneration 0.8.5..0.24.0 g
MellumForCausalLM 0.22.1..0.31.0 g
MiDashengLMModel 0.10.2.. g
MiMoForCausalLM 0.9.0.. g
MiMoV2FlashForCausalLM 0.14.0.. g
MiMoV2ForCausalLM 0.21.0.. g
MiMoV2OmniForCausalLM 0.21.0.. g
MiniCPM3ForCausalLM 0.8.5.. g
MiniCPMForCausalLM 0.8.5.. g
MiniCPMO 0.8.5.. g
MiniCPMOcrForConditionalGeneration 0.33.0.. g
MiniCPMV 0.8.5.. g
MiniCPMV4_6ForConditionalGeneration 0.22.0.. g
MiniCPMV4_7ForConditionalGeneration 0.32.0.. g
MiniMaxForCausalLM 0.10.0..0.23.0 g
MiniMaxM1ForCausalLM 0.9.2..0.23.0 g
MiniMaxM2ForCausalLM 0.11.1.. g
MiniMaxM3SparseForCausalLM 0.24.0.. g
MiniMaxM3SparseForConditionalGeneration 0.24.0.. g
MiniMaxText01ForCausalLM 0.8.5..0.23.0 g
MiniMaxVL01ForConditionalGeneration 0.9.0..0.23.0 g
Ministral3ForCausalLM 0.20.0.. g
Mistral3ForConditionalGeneration 0.8.5.. g
MistralForCausalLM 0.8.5.. g
MistralLarge3ForCausalLM 0.12.0.. g
MistralModel 0.8.5.. p
MixtralForCausalLM 0.8.5.. g
MllamaForConditionalGeneration 0.8.5..0.10.2 g
ModernBertForSequenceClassification 0.8.5.. p
ModernBertForTokenClassification 0.11.1.. p
ModernBertModel 0.9.0.. p
ModernVBertModel 0.33.0.. p
Molmo2ForConditionalGeneration 0.16.0.. g
MolmoForCausalLM 0.8.5.. g
Moondream3ForCausalLM 0.21.0.. g
MoonshotKimiaForCausalLM 0.18.0.. g
MossAudioModel 0.24.0.. g
MossTranscribeDiarizeForConditionalGeneration 0.25.0.. g
MotifForCausalLM 0.10.2..0.11.0 g
MptForCausalLM 0.8.5..0.28.0 g
MuseGlimmerForCausalLM 0.28.0.. g
MuseGlimmerForConditionalGeneration 0.28.0.. g
MuseSparkForConditionalGeneration 0.33.0.. g
MusicFlamingoForConditionalGeneration 0.16.0..0.24.0 g
NVLM_D 0.8.5.. g
NemotronForCausalLM 0.8.5.. g
NemotronHForCausalLM 0.9.1.. g
NemotronHPuzzleForCausalLM 0.16.0.. g
NemotronH_Nano_Omni_Reasoning_V3 0.20.0.. g
NemotronH_Nano_VL 0.10.2..0.10.2 g
NemotronH_Nano_VL_V2 0.11.0.. g
NemotronH_Omni_Reasoning_V3 0.29.0.. g
NemotronH_Super_Omni_Reasoning_V3 0.20.0.. g
NemotronParseForConditionalGeneration 0.14.0.. g
NomicBertModel 0.8.5.. p
OPTForCausalLM 0.8.5.. g
Olmo2ForCausalLM 0.8.5..0.25.1 g
Olmo3ForCausalLM 0.11.0..0.28.0 g
OlmoForCausalLM 0.8.5..0.25.1 g
OlmoHybridForCausalLM 0.18.0.. g
OlmoeForCausalLM 0.8.5.. g
OpenAIPrivacyFilterForTokenClassification 0.25.0.. p
OpenCUAForConditionalGeneration 0.12.0.. g
OpenPanguVLForConditionalGeneration 0.16.0.. g
OpenVLAForActionPrediction 0.22.0.. g
OpsColQwen3Model 0.17.0.. p
OrionForCausalLM 0.8.5.. g
OuroForCausalLM 0.11.1..0.26.0 g
Ovis 0.9.0.. g
Ovis2_5 0.10.2.. g
Ovis2_6ForCausalLM 0.17.0.. g
Ovis2_6_MoeForCausalLM 0.17.0.. g
PaddleOCRVLForConditionalGeneration 0.11.1.. g
PaliGemmaForConditionalGeneration 0.8.5.. g
PanguEmbeddedForCausalLM 0.11.1.. g
PanguProMoEV2ForCausalLM 0.14.0.. g
PanguUltraMoEForCausalLM 0.11.1.. g
Param2MoEForCausalLM 0.20.0.. g
PersimmonForCausalLM 0.8.5..0.25.1 g
Phi3ForCausalLM 0.8.5.. gp
Phi3SmallForCausalLM 0.8.5..0.9.2 g
Phi3VForCausalLM 0.8.5.. gp
Phi4FlashForCausalLM 0.10.0..0.10.2 g
Phi4ForCausalLMV 0.20.0.. g
Phi4MMForCausalLM 0.8.5.. g
Phi4MultimodalForCausalLM 0.10.1..0.12.0 g
PhiForCausalLM 0.8.5..0.31.0 g
PhiMoEForCausalLM 0.8.5.. g
PixtralForConditionalGeneration 0.8.5.. g
Plamo2ForCausalLM 0.8.5..0.26.0 g
Plamo3ForCausalLM 0.12.0.. g
PrithviGeoSpatialMAE 0.8.5..0.28.0 p
QWenLMHeadModel 0.8.5..0.23.0 g
QianfanOCRForConditionalGeneration 0.21.0.. g
QuantMixtralForCausalLM 0.8.5..0.10.1.1 g
Qwen2AudioForConditionalGeneration 0.8.5.. g
Qwen2ForCausalLM 0.8.5.. gp
Qwen2ForProcessRewardModel 0.8.5.. p
Qwen2ForRewardModel 0.8.5.. p
Qwen2ForSequenceClassification 0.8.5..0.9.2 p
Qwen2Model 0.8.5.. p
Qwen2MoeForCausalLM 0.8.5.. g
Qwen2VLForConditionalGeneration 0.8.5.. gp
Qwen2_5OmniForConditionalGeneration 0.9.0.. g
Qwen2_5OmniModel 0.8.5.. g
Qwen2_5_VLForConditionalGeneration 0.8.5.. g
Qwen3ASRForConditionalGeneration 0.16.0.. g
Qwen3ASRForcedAlignerForTokenClassification 0.19.0.. p
Qwen3ASRRealtimeGeneration 0.17.0.. g
Qwen3ForCausalLM 0.8.5.. g
Qwen3ForSequenceClassification 0.9.2..0.9.2 p
Qwen3MoeForCausalLM 0.8.5.. g
Qwen3NextForCausalLM 0.10.2.. g
Qwen3OmniMoeForConditionalGeneration 0.11.1.. g
Qwen3VLForConditionalGeneration 0.11.0.. g
Qwen3VLMoeForConditionalGeneration 0.11.0.. g
Qwen3VLNemotronEmbedModel 0.17.0.. p
Qwen3_5ForCausalLM 0.27.0.. g
Qwen3_5ForConditionalGeneration 0.17.0.. g
Qwen3_5MoeForCausalLM 0.27.0.. g
Qwen3_5MoeForConditionalGeneration 0.17.0.. g
Qwen4ExpForCausalLM 0.29.0.. g
Qwen4ExpForConditionalGeneration 0.29.0.. g
QwenVLForConditionalGeneration 0.8.5..0.23.0 g
RForConditionalGeneration 0.10.2.. g
RWForCausalLM 0.8.5..0.28.0 g
RadioMBartPrefixForCausalLM 0.33.0.. g
Rnj1ForCausalLM 0.20.0.. g
RobertaForMaskedLM 0.8.5.. p
RobertaForSequenceClassification 0.8.5.. p
RobertaForTokenClassification 0.26.0.. p
RobertaModel 0.8.5.. p
SarvamMLAForCausalLM 0.18.0.. g
SarvamMoEForCausalLM 0.18.0.. g
SeedOssForCausalLM 0.10.2..0.31.0 g
SiglipModel 0.11.1.. p
SkyworkR1VChatModel 0.8.5.. g
SmolVLMForConditionalGeneration 0.8.5.. g
SolarForCausalLM 0.8.5.. g
StableLMEpochForCausalLM 0.8.5..0.28.0 g
StableLmForCausalLM 0.8.5.. g
Starcoder2ForCausalLM 0.8.5..0.24.0 g
Step1ForCausalLM 0.16.0.. g
Step3TextForCausalLM 0.10.1.. g
Step3VLForConditionalGeneration 0.10.1.. g
Step3p5ForCausalLM 0.16.0.. g
Step3p7ForConditionalGeneration 0.23.0.. g
Step5ForCausalLM 0.33.0.. g
Step5ForConditionalGeneration 0.33.0.. g
StepVLForConditionalGeneration 0.16.0.. g
Tarsier2ForConditionalGeneration 0.9.2..0.24.0 g
TarsierForConditionalGeneration 0.9.1..0.24.0 g
TeleChat2ForCausalLM 0.8.5.. gp
TeleChat3ForCausalLM 0.20.0.. g
TeleChatForCausalLM 0.12.0..0.25.1 gp
TeleFLMForCausalLM 0.8.5.. g
Terratorch 0.10.2.. p
UltravoxModel 0.8.5.. g
UnlimitedOCRForCausalLM 0.25.0.. g
VoxtralForConditionalGeneration 0.10.0.. g
VoxtralRealtimeGeneration 0.16.0.. g
VoxtralStreamingGeneration 0.14.0..0.14.1 g
VoyageQwen3BidirectionalEmbedModel 0.16.0.. p
WhisperForConditionalGeneration 0.8.5.. g
XLMRobertaForSequenceClassification 0.8.5.. p
XLMRobertaForTokenClassification 0.26.0.. p
XLMRobertaModel 0.8.5.. p
XverseForCausalLM 0.8.5..0.23.0 g
Zamba2ForCausalLM 0.8.5.. g
""")
