"""Submit descriptions, one module for each way to a site; ``server_stub.factory.description`` chooses among them."""
