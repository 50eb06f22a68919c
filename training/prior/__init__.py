"""PGExp's expansion prior made from training data, in stages that are kept in a folder.

    crops.safetensors     28 x 28 crops of all objects' masks, by which everything is learnt
    encoder.safetensors   the mask encoder (`training.models.pgexp.mask_encoder`)
    flow_<W>.safetensors  the flow network (`training.models.pgexp.mask_flow`) of width W
    bank_<S>/             the memory bank of S slots a class (`storage.memory_bank`)

``python -m training.prior DATA --out FOLDER`` makes it; `training.train` does so too where it is
missing. A stage that is there is not made again.
"""
