from verl_socio.provenance import folder_hash, segmenter_hash
from verl_socio.segment import SegmenterConfig


def test_a_file_s_name_is_part_of_a_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = folder_hash(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert folder_hash(tmp_path) != before


def test_segmenters_are_told_by_their_weights(tmp_path):
    yaml, checkpoint = tmp_path / "m.yaml", tmp_path / "m.pt"
    yaml.write_text("model: {}")
    checkpoint.write_bytes(b"one")
    one = segmenter_hash(SegmenterConfig(weights=str(checkpoint)))
    checkpoint.write_bytes(b"two")
    two = segmenter_hash(SegmenterConfig(weights=str(checkpoint)))
    yaml.write_text("model: {a: 1}")
    assert len({one, two, segmenter_hash(SegmenterConfig(weights=str(checkpoint)))}) == 3
    words = {segmenter_hash(SegmenterConfig(weights=word)) for word in ("boxes", "embedded")}
    assert len(words) == 2
