"""How a street scene is drawn, one idea a file; `pem_training.scenes` puts them together."""
