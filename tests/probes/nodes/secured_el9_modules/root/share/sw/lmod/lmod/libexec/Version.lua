local M={}
function M.tag()  return "8.7.60"   end
return M
