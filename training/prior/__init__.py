"""Command: build PGExp's expansion prior from training data, in stages kept in a folder.

    crops.safetensors     28 x 28 crops of all objects' masks, what the networks are trained on
    encoder.safetensors   the mask encoder (`training.models.pgexp.mask_encoder`)
    flow_<W>.safetensors  the flow network (`training.models.pgexp.mask_flow`) of width W
    bank_<S>/             the memory bank of S slots a class (`storage.memory_bank`)

``python -m training.prior DATA --out FOLDER`` builds it; `training.train` does so too where it is
missing. Stages whose files are there are not repeated. The code is in
`training.models.pgexp.prior_building`: a network's settings call it, too, so it lies beside them.
"""
