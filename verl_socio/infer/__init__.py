"""Ask a model about images of one's own: which task it is, the answer, a mask, boxes and a picture."""
