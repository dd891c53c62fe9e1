"""Public data sets of medical images: where they are downloaded from, their checksums, licences and citations."""

from pipelines.core.contract import Source

_MEDMNIST = {
    "path": "a8b06965200029087d5bd730944a56c1",
    "derma": "0744692d530f8e62ec473284d019b0c7",
    "oct": "c68d92d5b585d8d81f7112f81e2d0842",
    "pneumonia": "28209eda62fecd6e6a2d98b1501bb15f",
    "retina": "bd4c0672f1bba3e3a89f0e4e876791e4",
    "breast": "750601b1f35ba3300ea97c75c52ff8f6",
    "blood": "7053d0359d879ad8a5505303e11de1dc",
    "tissue": "ebe78ee8b05294063de985d821c1c34b",
    "organa": "866b832ed4eeba67bfb9edee1d5544e6",
    "organc": "0afa5834fb105f7705a7d93372119a21",
    "organs": "e5c39f1af030238290b9557d9503af9d",
}
"""MD5 of the 28-pixel sets that have one class an image; ChestMNIST has several."""

CLASSES = {
    "medmnist:breast": ("malignant", "normal or benign"),
    "medmnist:pneumonia": ("normal", "pneumonia"),
    "medmnist:oct": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "medmnist:derma": (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "medmnist:blood": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
}
"""Names of the classes of public sets by code, where they are not a grade or one of many organs and tissues."""

SOURCES = {
    f"medmnist:{name}": Source(
        url=f"https://zenodo.org/record/6496656/files/{name}mnist.npz?download=1",
        checksum=f"md5:{md5}",
        size=0,
        licence="CC BY-NC 4.0" if name == "derma" else "CC BY 4.0",
        citation="Yang, Shi, Wei et al. (2023), MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D "
        "biomedical image classification",
    )
    for name, md5 in _MEDMNIST.items()
}
"""By the name that `--data` takes."""
