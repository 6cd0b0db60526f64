"""Networks: the zoo, the Segmenter contract they are adapted to, and the CCS head."""
