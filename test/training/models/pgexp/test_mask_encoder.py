import pytest
import torch

from training.models.pgexp.mask_encoder import CONVS_OF_CODE, MaskDecoder, MaskEncoder


@pytest.mark.parametrize("code", CONVS_OF_CODE)
def test_encoder_has_the_published_code_and_is_mirrored(code):
    encoder, decoder = MaskEncoder(code), MaskDecoder(code)
    codes = encoder(torch.rand(5, 28, 28))
    assert codes.shape == (5, code)
    assert decoder(codes).shape == (5, 28, 28)
