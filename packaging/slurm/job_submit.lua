-- job_submit.lua: what a job asks of qpud, checked in slurmctld and written where only administrators can change it.
--
-- For a job with --qpu: refuses an unknown QPU, hint or share in one sentence; asks for the licences that are its
-- share (`-L qpu:N`), so that Slurm counts them; writes the admin comment `qpud qpu=NAME[,NAME] share=N hint=HINT`.
-- A job that asks by `-L qpu:N` alone is left as it is. Slurm loads this file from the folder of slurm.conf with
-- JobSubmitPlugins=lua, and runs it under locks: no files and no sockets here. A site with a job_submit.lua of its
-- own calls qpud_job_submit from it.

-- The site's: names that --qpu takes (empty: any); those of them that need no licence, emulators as a rule, so that they
-- can be had while the QPU is full or drained; the licence (the daemon counts none that is not called qpu); its units
-- for a job that names no share.
local QPUS = {}
local WITHOUT_LICENCE = {}
local LICENCE = "qpu"
local SHARE = 1

local SHARE_UNITS = 10
local HINTS = { ["qc-heavy"] = true, ["cc-heavy"] = true, ["qc-balanced"] = true }

-- The SPANK options of the job by name; Slurm gives a map, or a list of "NAME=VALUE".
local function spank_options(job)
   local found = {}
   for key, value in pairs(job.spank_job_env or {}) do
      local name, text = key, value
      if type(key) == "number" then name, text = string.match(value, "^([^=]+)=(.*)$") end
      if name then found[string.gsub(name, "^SPANK_", "")] = text end
   end
   return found
end

-- The first of the names "A,B" that is not in the list; nil if all are.
local function not_among(names, list)
   local among = {}
   for _, one in ipairs(list) do among[one] = true end
   for name in string.gmatch(names, "[^,]+") do
      if not among[name] then return name end
   end
end

local function wrong_names(names)
   if not string.match(names, "^[%w_.-]+[%w_.,-]*$") then return "--qpu=" .. names .. " is not a list of names" end
   local unknown = #QPUS > 0 and not_among(names, QPUS)
   if unknown then return "there is no QPU " .. unknown .. ": there are " .. table.concat(QPUS, ", ") end
end

-- Units of the QPU's licence in a list such as "matlab:2,qpu:3"; nil without one.
local function units(licences)
   for item in string.gmatch(licences or "", "[^,;|]+") do
      local name, number = string.match(item, "^%s*([^:=]+)[:=]?(%d*)%s*$")
      if name == LICENCE then return number == "" and 1 or tonumber(number) end
   end
end

local function wrong_share(text, licensed)
   local share = tonumber(text)
   if not string.match(text, "^%d+$") or share < 1 or share > SHARE_UNITS then
      return "--qpu-share=" .. text .. " is not 1 to " .. SHARE_UNITS .. " units"
   end
   if licensed and licensed ~= share then
      return "--qpu-share=" .. text .. " and --licenses=" .. LICENCE .. ":" .. licensed .. " differ: give one of them"
   end
end

local function wrong_hint(text)
   if text ~= "" and not HINTS[text] then return "--qpu-hint=" .. text .. " is not qc-heavy, cc-heavy or qc-balanced" end
end

local function complaint(asked, licensed)
   if not asked.QPUD_QPU then
      return (asked.QPUD_SHARE or asked.QPUD_HINT) and "--qpu-share and --qpu-hint need --qpu=NAME" or nil
   end
   return wrong_names(asked.QPUD_QPU)
      or asked.QPUD_SHARE and wrong_share(asked.QPUD_SHARE, licensed)
      or wrong_hint(asked.QPUD_HINT or "")
end

function qpud_job_submit(job)
   local asked, licensed = spank_options(job), units(job.licenses)
   local wrong = complaint(asked, licensed)
   if wrong then
      slurm.log_user("qpud: %s", wrong)
      return slurm.ERROR
   end
   if not asked.QPUD_QPU then return slurm.SUCCESS end
   local is_free = not licensed and not asked.QPUD_SHARE and not not_among(asked.QPUD_QPU, WITHOUT_LICENCE)
   local share = licensed or tonumber(asked.QPUD_SHARE) or (is_free and 1 or SHARE)
   if not licensed and not is_free then
      local others = job.licenses and job.licenses ~= "" and job.licenses .. "," or ""
      job.licenses = others .. LICENCE .. ":" .. math.floor(share)
   end
   local hint = asked.QPUD_HINT and " hint=" .. asked.QPUD_HINT or ""
   job.admin_comment = string.format("qpud qpu=%s share=%d%s", asked.QPUD_QPU, share, hint)
   return slurm.SUCCESS
end

function slurm_job_submit(job, partitions, uid)
   return qpud_job_submit(job)
end

function slurm_job_modify(job, record, partitions, uid)
   return slurm.SUCCESS
end

return slurm.SUCCESS
