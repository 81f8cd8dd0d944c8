"""The sizes of a PEM network and the two variants this project names."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PemConfig:
    """Everything that determines the shape of a PEM network.

    The model card specifies the layer count, the queries, the classes and the kind of convolution;
    the widths are those of the original PEM.
    """

    classes: int = 150  # ADE20K; the class head has one more output, "no object"
    queries: int = 100
    layers: int = 3  # decoder layers; the card's number, the original has 6
    deformable: bool = False  # the card replaces deformable convolutions by standard ones
    decoder_width: int = 256  # channels of queries and of mask features
    pixel_width: int = 128  # channels inside the pixel decoder
    ffn_width: int = 2048
    heads: int = 8
    backbone_base: int = 64  # STDC: stage widths are 1, 4, 8 and 16 times this
    backbone_blocks: tuple[int, int, int] = (4, 5, 3)  # STDC-2: blocks at 1/8, 1/16, 1/32

    @property
    def backbone_widths(self) -> tuple[int, int, int, int]:
        """Channels of the backbone's features at strides 4, 8, 16 and 32."""
        base = self.backbone_base
        return base, 4 * base, 8 * base, 16 * base


def fai_pem_m_ade() -> PemConfig:
    """The network of the model card `fai-pem-m-ade`."""
    return PemConfig()


def pem_stdc2_ade() -> PemConfig:
    """The original authors' PEM with STDC-2 for ADE20K: deformable, six layers."""
    return PemConfig(deformable=True, layers=6)


VARIANTS = {"fai-pem-m-ade": fai_pem_m_ade, "pem-stdc2-ade": pem_stdc2_ade}
