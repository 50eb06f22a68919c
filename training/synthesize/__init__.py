"""New pictures from the pieces of photographs, with exact amodal truth."""
