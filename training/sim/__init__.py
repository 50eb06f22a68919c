"""Simulated cluttered scenes with exact amodal truth, rendered by MuJoCo.

``python -m training.sim --scenes N --seed S --out DIR`` writes N pictures and ``annotations.json``
in the amodal COCO format, `trajectory` films one scene, `bag` writes the sample bag.

The way of a picture: `shapes` (families of objects) and `textures` -> `scene` (drop, settle,
randomise, light) -> `render` (colour, masks, depth) -> `camera_effects` (exposure, blur, noise,
JPEG) -> `generate` (jobs, records, merge).

What the truth says:

- a physics scene gives three consecutive pictures, each with its own light, surfaces and camera;
  keep them on one side when splitting a data set;
- a mask holds the pixels whose centre the object covers; the amodal mask is the object drawn
  alone, cut at the image border; transparent objects count as solid;
- hidden pixels may lie behind a bin's wall or the table's edge too: these give no edge;
- objects with fewer than 64 amodal or 16 visible pixels are not annotated, nor are flat prints,
  mats and posters, which are there to be told from objects;
- each image record names its ``families`` (train, heldout or mixed) and ``physics_scene``, each
  annotation its ``family``.

Same seed, same bytes, for one version of this folder, of MuJoCo and of the OpenGL driver.
"""
